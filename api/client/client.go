package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/credentials"
)

// Client calls one daemon. It is safe for concurrent use. The errors of its methods
// are *puller.Error with the daemon's kind, *Unreachable if no daemon answered, or
// that of the context if it ended the call.
type Client struct {
	http  *http.Client
	host  string // as given to New
	base  string
	token string
}

// Unreachable is the error of a call that no daemon answered, or not to its end.
type Unreachable struct {
	Host string
	Err  error
}

func (e *Unreachable) Error() string {
	err := e.Err
	if op, ok := err.(*net.OpError); ok && op.Op == "dial" {
		err = op.Err // without the address, which Host has
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("no access to the towline daemon at %s: %v", e.Host, err)
	}
	return fmt.Sprintf("no towline daemon answers at %s: %v", e.Host, err)
}

func (e *Unreachable) Unwrap() error { return e.Err }

// New returns a Client of a host: unix:///PATH, http://… or https://…. If host is "", it is
// that of [Host]. The client sends the token as a bearer token, if it is not empty. New
// does not connect.
func New(host, token string) (*Client, error) { return NewTLS(host, token, TLS{}) }

// NewTLS is [New] with files for https://….
func NewTLS(host, token string, files TLS) (*Client, error) {
	if host == "" {
		host = Host()
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     30 * time.Second,
	}
	c := &Client{http: &http.Client{Transport: transport}, host: host, base: strings.TrimSuffix(host, "/"), token: token}
	u, err := url.Parse(host)
	switch {
	case err != nil:
		return nil, fmt.Errorf("host %q: %w", host, err)
	case u.User != nil:
		return nil, fmt.Errorf("host %q: has a user name; remove it and use a token", u.Redacted())
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		c.base = "http://towline"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", u.Path)
			if err != nil {
				return nil, &Unreachable{Host: host, Err: err}
			}
			return conn, nil
		}
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return nil, fmt.Errorf("host %q: write unix:///PATH, http://HOST:PORT or https://HOST:PORT", host)
	}
	if files != (TLS{}) && u.Scheme == "https" {
		transport.TLSClientConfig, err = files.config()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Submit asks for an image and returns the job as it was accepted.
func (c *Client) Submit(ctx context.Context, r PullRequest) (puller.Job, error) {
	var j puller.Job
	return j, c.post(ctx, "/v1/pulls", r, headers{r.Credentials, nil, r.IdempotencyKey, r.TraceParent}, &j)
}

// Pull asks for an image and returns the job when it has ended. A job that fails is
// an error.
func (c *Client) Pull(ctx context.Context, r PullRequest) (puller.Job, error) {
	var j puller.Job
	return j, c.post(ctx, "/v1/pulls?wait=true", r, headers{r.Credentials, nil, r.IdempotencyKey, r.TraceParent}, &j)
}

// Run asks for a run of an image's program and returns the job as it was accepted.
func (c *Client) Run(ctx context.Context, r RunRequest) (puller.Job, error) {
	var j puller.Job
	return j, c.post(ctx, "/v1/runs", r, headers{r.Credentials, nil, r.IdempotencyKey, r.TraceParent}, &j)
}

// Prewarm asks for many images and returns the job as it was accepted.
func (c *Client) Prewarm(ctx context.Context, r PrewarmRequest) (puller.Job, error) {
	var j puller.Job
	return j, c.post(ctx, "/v1/prewarms", r, headers{r.Credentials, r.Logins, r.IdempotencyKey, r.TraceParent}, &j)
}

// Plan returns what a prewarm would do. It pulls nothing.
func (c *Client) Plan(ctx context.Context, r PrewarmRequest) (puller.Plan, error) {
	var p puller.Plan
	return p, c.post(ctx, "/v1/prewarms?dry_run=true", r, headers{auth: r.Credentials, logins: r.Logins}, &p)
}

// headers is what is sent beside the JSON of a request.
type headers struct {
	auth       puller.Credentials
	logins     []puller.Credentials
	key, trace string
}

// post sends a request for a job.
func (c *Client) post(ctx context.Context, path string, request any, more headers, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if auth := more.auth.Header(); auth != "" {
		header.Set("X-Registry-Auth", auth)
	}
	if config := credentials.Config(more.logins); config != "" {
		header.Set("X-Registry-Config", config)
	}
	if more.key != "" {
		header.Set("Idempotency-Key", more.key)
	}
	if more.trace != "" {
		header.Set("Traceparent", more.trace)
	}
	return c.call(ctx, http.MethodPost, path, header, body, answer)
}

// Job returns a job in its present state.
func (c *Client) Job(ctx context.Context, id string) (puller.Job, error) {
	var j puller.Job
	return j, c.call(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id), nil, nil, &j)
}

// Cancel cancels a job and returns it.
func (c *Client) Cancel(ctx context.Context, id string) (puller.Job, error) {
	var j puller.Job
	return j, c.call(ctx, http.MethodDelete, "/v1/jobs/"+url.PathEscape(id), nil, nil, &j)
}

// Jobs returns jobs, newest first, and the cursor of the next page, "" if there are no
// more. With a limit it returns as many if there are as many, also where the daemon ends
// its pages earlier. Without a limit it returns one page.
func (c *Client) Jobs(ctx context.Context, f puller.Filter) ([]puller.Job, string, error) {
	jobs, next, err := c.jobPage(ctx, f)
	for err == nil && next != "" && len(jobs) < f.Limit {
		var more []puller.Job
		more, next, err = c.jobPage(ctx, puller.Filter{State: f.State, Kind: f.Kind, Image: f.Image, Cursor: next, Limit: f.Limit - len(jobs)})
		jobs = append(jobs, more...)
	}
	return jobs, next, err
}

func (c *Client) jobPage(ctx context.Context, f puller.Filter) ([]puller.Job, string, error) {
	q := url.Values{}
	for name, v := range map[string]string{"state": string(f.State), "kind": string(f.Kind), "image": f.Image, "cursor": f.Cursor} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var page struct {
		Jobs []puller.Job
		Next string
	}
	err := c.call(ctx, http.MethodGet, "/v1/jobs?"+q.Encode(), nil, nil, &page)
	return page.Jobs, page.Next, err
}

// Engine describes the daemon's engine.
func (c *Client) Engine(ctx context.Context) (puller.EngineInfo, error) {
	var e puller.EngineInfo
	return e, c.call(ctx, http.MethodGet, "/v1/engine", nil, nil, &e)
}

// Queue says which transfers fetch, which wait and for what, and which registries are in
// a cool-down.
func (c *Client) Queue(ctx context.Context) (puller.QueueState, error) {
	var q puller.QueueState
	return q, c.call(ctx, http.MethodGet, "/v1/queue", nil, nil, &q)
}

// Ready returns nil if the daemon, its engine and its store answer. It needs no
// token.
func (c *Client) Ready(ctx context.Context) error {
	var status struct{}
	return c.call(ctx, http.MethodGet, "/readyz", nil, nil, &status)
}

// callJSON makes a call with a JSON body.
func (c *Client) callJSON(ctx context.Context, method, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.call(ctx, method, path, http.Header{"Content-Type": {"application/json"}}, body, answer)
}

// call makes one call and reads its answer to the end, so that the connection can be
// used again.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, body []byte, answer any) error {
	resp, err := c.send(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return c.unanswered(ctx, err)
	}
	io.Copy(io.Discard, resp.Body)
	return nil
}

// send makes one call, and returns an answer with a status below 300.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return nil, problem(resp, raw)
}

// unanswered returns the error of a call that got no answer, or a part of one.
func (c *Client) unanswered(ctx context.Context, err error) error {
	var unreachable *Unreachable
	var u *url.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &unreachable):
		return unreachable
	case errors.As(err, &u):
		err = u.Err
	}
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		err = fmt.Errorf("%w; name its authority with --tlscacert or TOWLINE_TLSCACERT", err)
	case err != nil && strings.Contains(err.Error(), "tls: certificate required"): // it has no exported type
		err = fmt.Errorf("%w; name one with --tlscert and --tlskey", err)
	}
	return &Unreachable{Host: c.host, Err: err}
}

// foreignAnswer is an error that does not come from a Towline daemon.
type foreignAnswer struct {
	code       int
	status     string
	withoutTLS bool // it came from a listener that wants TLS
}

func (e *foreignAnswer) Error() string {
	if e.withoutTLS {
		return "the daemon asks for TLS there; write https:// for its address"
	}
	return fmt.Sprintf("the answer %q does not come from a towline daemon; check the address", e.status)
}

// problem returns the error that an answer has.
func problem(resp *http.Response, raw []byte) error {
	var p struct {
		Detail string           `json:"detail"`
		Kind   puller.ErrorKind `json:"kind"`
	}
	if json.Unmarshal(raw, &p) != nil || p.Kind == "" {
		return puller.Errorf(puller.ErrInternal, "%w", &foreignAnswer{resp.StatusCode, resp.Status, bytes.Contains(raw, []byte("without TLS; use https://"))})
	}
	e := puller.Errorf(p.Kind, "%s", p.Detail)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}
