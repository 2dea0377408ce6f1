package api

import (
	"net/http"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/dockerapi"
)

// scopeOf returns what a caller needs for a request. pattern is the route that
// takes it, "" for none; the paths of Docker's API have none. What is not in
// here, and changes something, needs all scopes: so a new route is closed until
// somebody says for whom it is open.
func scopeOf(r *http.Request, pattern string) auth.Scope {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	// Docker's paths come first, as in withDocker, which takes paths that are
	// not clean, too, for which pattern is what they would lead to.
	if _, path, dockers := dockerapi.SplitPath(r.URL.Path); dockers {
		switch {
		case reads && (path == "/_ping" || path == "/version"):
			return auth.Known // every client asks them first
		case reads:
			return auth.ScopeRead
		case r.Method == http.MethodPost && path == "/images/create":
			return auth.ScopePull
		}
		return auth.ScopeAdmin
	}
	switch pattern {
	case "GET /healthz", "GET /readyz", "POST /v1/session":
		return auth.Anyone
	case "GET /v1/session", "DELETE /v1/session":
		return auth.Known
	case "DELETE /v1/jobs/{id}":
		return auth.Known // what kind of job it is says the rest: cancelJob
	case "POST /v1/pulls", "POST /v1/prewarms":
		return auth.ScopePull
	case "POST /v1/runs":
		return auth.ScopeRun
	case "":
		return auth.Known // it is refused in any case
	}
	if reads {
		return auth.ScopeRead
	}
	return auth.ScopeAdmin
}
