package api

import "net/http"

// Scope is a kind of thing that a caller may be allowed.
type Scope string

// The scopes.
const (
	ScopeRead  Scope = "read"  // see jobs, their events and output, the engine, the metrics
	ScopePull  Scope = "pull"  // have images pulled, and such jobs cancelled
	ScopeRun   Scope = "run"   // have programs run, and such jobs cancelled
	ScopeAdmin Scope = "admin" // everything
)

// Scopes are all of them.
func Scopes() []Scope { return []Scope{ScopeRead, ScopePull, ScopeRun, ScopeAdmin} }

// What a route may ask for beside them.
const (
	anyone Scope = ""      // of whoever comes
	known  Scope = "known" // of every caller whose name is known
)

// scopeOf returns what a caller needs for a request. pattern is the route that
// takes it, "" for none; the paths of Docker's API have none. What is not in
// here, and changes something, needs all scopes: so a new route is closed until
// somebody says for whom it is open.
func scopeOf(r *http.Request, pattern string) Scope {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	// Docker's paths come first, as withDocker has them: it takes paths that are
	// not clean, too, for which pattern is what they would lead to.
	if _, path, dockers := dockerPath(r.URL.Path); dockers {
		switch {
		case reads && (path == "/_ping" || path == "/version"):
			return known // every client asks them first
		case reads:
			return ScopeRead
		case r.Method == http.MethodPost && path == "/images/create":
			return ScopePull
		}
		return ScopeAdmin
	}
	switch pattern {
	case "GET /healthz", "GET /readyz", "POST /v1/session":
		return anyone
	case "GET /v1/session", "DELETE /v1/session":
		return known
	case "DELETE /v1/jobs/{id}":
		return known // what kind of job it is says the rest: cancelJob
	case "POST /v1/pulls", "POST /v1/prewarms":
		return ScopePull
	case "POST /v1/runs":
		return ScopeRun
	case "":
		return known // it is refused in any case
	}
	if reads {
		return ScopeRead
	}
	return ScopeAdmin
}
