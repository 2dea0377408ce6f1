package api

import (
	"net/http"
	"slices"
	"strings"
)

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
	case "":
		if !inDockersForm(r.URL.Path) {
			return known // it is refused in any case
		}
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	path := unversioned(r.URL.Path)
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

// inDockersForm reports whether a path is one of Docker's own API, so that its
// clients are told in its form why they are refused.
func inDockersForm(path string) bool {
	short := unversioned(path)
	first, _, _ := strings.Cut(strings.TrimPrefix(short, "/"), "/")
	return len(short) != len(path) || slices.Contains([]string{
		"_ping", "version", "info", "auth", "events", "images", "containers", "networks", "volumes", "distribution", "build", "session", "system",
	}, first)
}

// unversioned takes the version (/v1.NN) off a path of Docker's API.
func unversioned(path string) string {
	rest, ok := strings.CutPrefix(path, "/v1.")
	if !ok {
		return path
	}
	version, rest, _ := strings.Cut(rest, "/")
	if version == "" || strings.Trim(version, "0123456789") != "" {
		return path
	}
	return "/" + rest
}
