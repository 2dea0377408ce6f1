// Package guard is in front of all routes: it lets through what a caller may do.
package guard

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/audit"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/dockerapi"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/api/limits"
	"github.com/towline/towline/puller"
)

// Guard is in front of all routes. It identifies the caller of a request, and refuses
// what the caller may not do.
type Guard struct {
	Audit    audit.Log
	Mux      *http.ServeMux
	Next     http.Handler
	Tokens   *auth.Tokens // nil for none
	Sessions *auth.Sessions
	Hosts    auth.Hosts
	Requests *limits.Requests
	Origin   *http.CrossOriginProtection
	Open     bool
}

// maxURL is how many bytes the target of a request may have.
const maxURL = 32 << 10

func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 {
		// A body that arrives slowly must not hold a goroutine, also if no route
		// reads it. A reader of the body removes the deadline at its end.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(input.BodyLimit))
	}
	who, err := g.admit(w, r)
	if err != nil {
		if who.Name != "" { // it is known, and may not
			r = r.WithContext(auth.WithCaller(r.Context(), who))
		}
		g.Audit.Refused(r, err)
		g.refuse(w, r, err)
		return
	}
	if _, ok := auth.CallerOf(r); !ok {
		r = r.WithContext(auth.WithCaller(r.Context(), who))
	}
	g.Next.ServeHTTP(w, r)
}

// admit returns the caller of a request, also with an error if it is known. The connection
// of an unknown caller is closed after the answer.
func (g *Guard) admit(w http.ResponseWriter, r *http.Request) (auth.Caller, error) {
	w.Header().Set("Connection", "close")
	if len(r.RequestURI) > maxURL {
		return auth.Caller{}, errLongURL
	}
	if err := auth.CheckHost(r); err != nil {
		return auth.Caller{}, err
	}
	if r.URL.RawQuery != "" {
		// A token in a URL gets into logs, histories and Referer headers.
		query := r.URL.Query()
		for _, name := range []string{"token", "access_token", "authorization"} {
			if query.Has(name) {
				return auth.Caller{}, input.Invalid("%s: a token is not taken from the address; send it as \"Authorization: Bearer TOKEN\", and replace this one", name)
			}
		}
	}
	who, unknown := g.identify(r)
	if unknown == nil {
		w.Header().Del("Connection")
	}
	if !who.Local {
		if err := g.check(w, r, who, unknown); err != nil {
			return who, err
		}
	}
	if err := g.Origin.Check(r); err != nil {
		return who, puller.Errorf(puller.ErrForbidden, "the request comes from another site's page: %w", err)
	}
	return who, checkBody(w, r)
}

// check returns why a caller over TCP may not make a request, or nil. unknown says
// why the caller is not known, or is nil.
func (g *Guard) check(w http.ResponseWriter, r *http.Request, who auth.Caller, unknown error) error {
	if !g.Hosts.Has(r) {
		return puller.Errorf(puller.ErrForbidden, "Host: %q is no name of this daemon; use one of its names, or add this one to its auth.hosts", input.Clip(r.Host))
	}
	name := who.Name
	if unknown != nil {
		name = auth.Stranger(r.RemoteAddr)
	}
	if wait := g.Requests.Allow(name); wait > 0 {
		return &puller.Error{Kind: puller.ErrOverloaded, RetryAfter: wait,
			Err: errors.New("more requests a second than one caller may make (limits.requests); ask again later")}
	}
	if unknown == nil {
		if err := connections.Admit(r, who); err != nil {
			w.Header().Set("Connection", "close")
			return err
		}
	}
	_, pattern := g.Mux.Handler(r)
	scope := ScopeOf(r, pattern)
	if scope != auth.Anyone && unknown != nil {
		return unknown
	}
	return who.Need(scope)
}

// identify returns the caller of a request. The error is ErrUnauthorized.
func (g *Guard) identify(r *http.Request) (auth.Caller, error) {
	if c, ok := auth.CallerOf(r); ok {
		return c, nil
	}
	if g.Open {
		return auth.Caller{Scopes: []auth.Scope{auth.ScopeAdmin}, Local: true}, nil
	}
	return auth.Identify(r, g.Tokens, g.Sessions)
}

// checkBody refuses a compressed body, and a body where the method has none. Docker's
// clients send a body without a meaning with a pull. It is read, because net/http
// notices a disconnect only after the body.
func checkBody(w http.ResponseWriter, r *http.Request) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return input.Invalid("Content-Encoding: %q is not taken; send the body as it is", input.Clip(coding))
	}
	_, _, dockers := dockerapi.SplitPath(r.URL.Path)
	if r.ContentLength == 0 || takesBody(r.Method) && !dockers {
		return nil
	}
	n, err := io.CopyN(io.Discard, r.Body, input.MaxBody+1)
	switch {
	case n > 0 && !dockers:
		return input.Invalid("body: %s takes none here", r.Method)
	case n > input.MaxBody:
		return input.Invalid("body: larger than 1 MiB")
	case !errors.Is(err, io.EOF):
		return input.Invalid("body: cut off before its end: %v", err)
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return nil
}

// takesBody reports whether requests of a method may have a body.
func takesBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// refuse answers with an error, to Docker's clients in Docker's form.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Cache-Control", "no-store")
	p := answers.ProblemOf(err)
	if errors.Is(err, errLongURL) {
		p.Status, p.Title = http.StatusRequestURITooLong, "The address is too long"
	}
	if _, _, dockers := dockerapi.SplitPath(r.URL.Path); dockers {
		p.Docker().Write(w)
		return
	}
	answers.WriteProblem(w, r, p)
}

var errLongURL = input.Invalid("the address is longer than %d bytes", maxURL)
