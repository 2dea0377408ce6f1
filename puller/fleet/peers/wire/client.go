// Package wire asks another host of a fleet for something, and says what its answer means.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/token"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/sharing"
)

// Headers of requests, beside Authorization, and of answers. The last two are of chunks: the
// offset in the blob where the bytes begin, and how many were there at first.
const (
	HeaderSet        = "Towline-Set"
	HeaderGeneration = "Towline-Generation"
	HeaderHost       = "Towline-Host" // that asks
	HeaderRepository = "Towline-Repository"
	HeaderImage      = "Towline-Image"    // the digest by which the set names it
	HeaderManifest   = "Towline-Manifest" // that lists the blob
	HeaderOnly       = "Towline-Only"     // "1": what the host has, it is to bring nothing
	HeaderFrom       = "Towline-From"
	HeaderThere      = "Towline-There"
)

// Paths of requests, before the digest. The version of chunks and sums goes up when hosts cut
// blobs into other chunks: a host of another version then answers 404, and is not taken for
// one that lies.
const (
	PathChunks    = "/v2/chunks/"
	PathManifests = "/v1/manifests/"
	PathSums      = "/v2/sums/"
)

// What a host may answer, beside what it was asked for.
var (
	ErrWaiting = errors.New("it waits for the bytes itself")
	ErrBusy    = errors.New("it gives to as many as it may")
	ErrRefused = errors.New("it does not give it")
	ErrStrange = errors.New("it does not know the set, or not yet")
	ErrSlow    = errors.New("it is too slow")
	ErrLie     = errors.New("its answer is not what it says")
)

// KeepError is that what came can't be kept here.
type KeepError struct{ error }

// Unwrap returns why.
func (e KeepError) Unwrap() error { return e.error }

// Piece is how many bytes are read, kept and sent at a time.
const Piece = 128 << 10

// Pieces are the memory of Pieces.
var Pieces = sync.Pool{New: func() any { return new([Piece]byte) }}

const (
	// slowest is how many bytes a second a host must send of those that it has.
	slowest = 64 << 10
	// mostManifest is how large a manifest may be.
	mostManifest = 4 << 20
	// keepAfter is how long bytes are in memory while others come.
	keepAfter = 20 * time.Millisecond
)

// Timing is how long a host may take: for the head of an answer, between bytes, and for an
// answer in all.
type Timing struct{ Head, Gap, Answer time.Duration }

// Client asks other hosts. Its methods may be called from anywhere.
type Client struct {
	timing Timing
	http   *http.Client
}

// Question is who asks whom, and of what.
type Question struct {
	Group    fleet.Group // with the host that asks
	To       fleet.Member
	Image    sharing.Image
	Manifest string // that lists the blob, "" for a manifest
	Digest   string // of the blob or the manifest
	Only     bool   // the host is to give what it has, and to bring nothing
}

// Dial makes a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// NewClient returns a Client: without a proxy, without redirects, and one request a
// connection, as one TCP stream is for one chunk. Without a dial it connects by TCP.
func NewClient(t Timing, dial Dial) *Client {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return &Client{timing: t, http: &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			MaxIdleConnsPerHost:    4,
			MaxIdleConns:           64,
			IdleConnTimeout:        10 * time.Second,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
			ForceAttemptHTTP2:      false,
			TLSNextProto:           nil,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// get asks a host. What ends the answer in any case is its context: the caller must call
// cancel.
func (c *Client) get(ctx context.Context, q Question, path string) (resp *http.Response, alive *time.Timer, cancel func(), err error) {
	ctx, stop := context.WithTimeoutCause(ctx, c.timing.Answer, ErrSlow)
	ctx, end := context.WithCancelCause(ctx)
	alive = time.AfterFunc(c.timing.Head, func() { end(errors.New("it sends nothing")) })
	cancel = func() { alive.Stop(); end(nil); stop() }
	defer func() {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			cancel()
		}
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+q.To.Address+path, nil)
	if err != nil {
		return nil, alive, cancel, err
	}
	r.Header = http.Header{
		"Authorization": {token.Header(q.Group, q.Group.Self, q.Digest)},
		HeaderSet:       {q.Group.Set}, HeaderGeneration: {strconv.FormatUint(q.Group.Generation, 10)}, HeaderHost: {q.Group.Self},
		HeaderRepository: {q.Image.Repository}, HeaderImage: {q.Image.Digest}, HeaderManifest: {q.Manifest},
		"Accept-Encoding": {"identity"}, "User-Agent": {"towline"},
	}
	if q.Only {
		r.Header.Set(HeaderOnly, "1")
	}
	resp, err = c.http.Do(r)
	if err != nil {
		return nil, alive, cancel, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp, alive, cancel, nil
	case http.StatusAccepted:
		err = ErrWaiting
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		err = ErrBusy
	case http.StatusForbidden:
		err = ErrStrange
	case http.StatusNotFound, http.StatusBadRequest:
		err = ErrRefused
	default:
		err = fmt.Errorf("%w: %s", ErrLie, resp.Status)
	}
	io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection is used again
	resp.Body.Close()
	return nil, alive, cancel, err
}

// Chunk asks a host for a range of a chunk, and keeps what comes in a blob. got is how much
// that was, also with an error: an answer may end early, and the rest is asked for again.
// taken is called with each part of it.
func (c *Client) Chunk(ctx context.Context, q Question, index int, r blobs.Range, into io.WriterAt, taken func(int)) (got int64, err error) {
	began := time.Now()
	path := fmt.Sprintf(PathChunks+"%s/%d?from=%d&to=%d", q.Digest, index, r.From, r.To)
	resp, alive, cancel, err := c.get(ctx, q, path)
	if err != nil {
		return 0, err
	}
	defer cancel()
	defer resp.Body.Close()
	there, err := strconv.ParseInt(resp.Header.Get(HeaderThere), 10, 64)
	if from := resp.Header.Get(HeaderFrom); from != strconv.FormatInt(r.From, 10) || err != nil || there < 0 {
		return 0, fmt.Errorf("%w: it sends bytes from %q on, not from %d", ErrLie, puller.Clip(from), r.From)
	}
	there = min(there, r.To-r.From)
	memory := Pieces.Get().(*[Piece]byte)
	defer Pieces.Put(memory)
	at, filled, kept := r.From, 0, time.Now()
	for {
		alive.Reset(c.timing.Gap)
		k, err := resp.Body.Read(memory[filled:])
		if filled += k; at+int64(filled) > r.To {
			return got, fmt.Errorf("%w: it sends more than the %d bytes that were asked for", ErrLie, r.To-r.From)
		}
		if filled == Piece || err != nil || time.Since(kept) > keepAfter {
			// Whether the digest is right is looked at when all is here.
			if _, err := into.WriteAt(memory[:filled], at); err != nil && puller.KindOf(err) != puller.ErrCorrupt {
				return got, KeepError{err}
			}
			if filled > 0 {
				taken(filled)
			}
			at, got, filled, kept = at+int64(filled), got+int64(filled), 0, time.Now()
		}
		if err == nil {
			continue
		}
		if cause := context.Cause(resp.Request.Context()); cause != nil {
			err = cause
		}
		switch took := time.Since(began); {
		case got < there && took > c.timing.Gap/2 && float64(got) < slowest*took.Seconds():
			return got, ErrSlow
		case err == io.EOF && got == 0:
			return got, ErrWaiting
		case err == io.EOF, got > 0: // where it was cut, the next request shows whether the host still answers
			return got, nil
		}
		return got, err
	}
}

// Manifest asks a host for a manifest, and compares its digest.
func (c *Client) Manifest(ctx context.Context, q Question) ([]byte, error) {
	resp, alive, cancel, err := c.get(ctx, q, PathManifests+q.Digest)
	if err != nil {
		return nil, err
	}
	defer cancel()
	defer resp.Body.Close()
	alive.Reset(c.timing.Gap)
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostManifest+1))
	if err != nil {
		return nil, err
	}
	if of := digest.Digest(q.Digest); len(body) > mostManifest || of.Algorithm().FromBytes(body) != of {
		return nil, fmt.Errorf("%w: the bytes of %s have another digest", ErrLie, of)
	}
	return body, nil
}

// Sums asks a host that has proven a blob for the sums of its chunks: so many bytes.
func (c *Client) Sums(ctx context.Context, q Question, want int) ([]byte, error) {
	resp, alive, cancel, err := c.get(ctx, q, PathSums+q.Digest)
	if err != nil {
		return nil, err
	}
	defer cancel()
	defer resp.Body.Close()
	alive.Reset(c.timing.Gap)
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(want)+1))
	if err == nil && len(body) != want {
		err = fmt.Errorf("%w: it has sums of %d bytes, not %d", ErrLie, len(body), want)
	}
	return body, err
}
