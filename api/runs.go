package api

import (
	"net/http"

	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/tracing"
)

// createRun is POST /v1/runs.
func (s *Server) createRun(w http.ResponseWriter, r *http.Request) error {
	var request puller.RunRequest
	err := input.Body(w, r, &request)
	if err != nil {
		return err
	}
	if request.Credentials, request.IdempotencyKey, err = headers(r); err != nil {
		return err
	}
	request.Caller, request.Rules = input.Caller(r)
	request.TraceParent = tracing.Clean(r.Header.Get("traceparent"))
	return s.submit(w, r, func() (puller.Job, error) { return s.puller.Run(request) })
}

// refuseRun is POST /v1/runs if runs are disabled.
func (s *Server) refuseRun(http.ResponseWriter, *http.Request) error {
	return puller.Errorf(puller.ErrForbidden, "this daemon runs no programs: its runs.enabled is false")
}
