package guard

import (
	"net/http"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/dockerapi"
)

// ScopeOf returns the scope that a request needs. pattern is the route of the request, ""
// for none and for paths of Docker's API. A route that changes something and is not listed
// here needs the scope admin, so a new route is closed until it is added.
func ScopeOf(r *http.Request, pattern string) auth.Scope {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	// Docker's paths come first, as in withDocker. They need not be clean; pattern
	// then is the route of the clean path.
	if _, path, dockers := dockerapi.SplitPath(r.URL.Path); dockers {
		switch {
		case reads && (path == "/_ping" || path == "/version"):
			return auth.Known // every client requests them first
		case reads:
			return auth.ScopeRead
		case r.Method == http.MethodPost && path == "/images/create":
			return auth.ScopePull
		}
		return auth.ScopeAdmin
	}
	switch pattern {
	case "GET /healthz", "GET /readyz", "GET /openapi.yaml", "GET /docs", "POST /v1/session":
		return auth.Anyone
	case "GET /{$}", "GET /ui/{file}": // the dashboard has no data
		return auth.Anyone
	case "GET /v1/session", "DELETE /v1/session":
		return auth.Known
	case "DELETE /v1/jobs/{id}":
		return auth.Known // cancelJob checks the scope for the kind of the job
	case "POST /v1/pulls", "POST /v1/prewarms",
		"PUT /v1/sets/{name}", "DELETE /v1/sets/{name}", "POST /v1/sets/{name}/refresh",
		"POST /v1/leases", "PATCH /v1/leases/{id}", "DELETE /v1/leases/{id}":
		return auth.ScopePull
	case "POST /v1/runs":
		return auth.ScopeRun
	case "":
		return auth.Known // there is no route
	}
	if reads {
		return auth.ScopeRead
	}
	return auth.ScopeAdmin
}
