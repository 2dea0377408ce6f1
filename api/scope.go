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
// takes it, "" for none. What is not in here, and changes something, needs all
// scopes: so a new route is closed until somebody says for whom it is open.
func scopeOf(r *http.Request, pattern string) Scope {
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
	}
	_, path, dockers := dockerPath(r.URL.Path)
	if pattern == "" && !dockers {
		return known // it is refused in any case
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case reads && (path == "/_ping" || path == "/version"):
		return known // every client of Docker's asks them first
	case reads:
		return ScopeRead
	case r.Method == http.MethodPost && path == "/images/create":
		return ScopePull
	}
	return ScopeAdmin
}
