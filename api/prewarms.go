package api

import (
	"context"
	"net/http"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/tracing"
)

// createPrewarm is POST /v1/prewarms, with a list of images in JSON or a Compose file.
// With dry_run it answers with the plan and pulls nothing.
func (s *Server) createPrewarm(w http.ResponseWriter, r *http.Request) error {
	var request puller.PrewarmRequest
	var err error
	if input.IsYAML(r) {
		request, err = s.files.Read(w, r)
	} else if err = input.RefuseQuery(r, composeQuery); err == nil {
		err = input.Body(w, r, &request)
	}
	if err != nil {
		return err
	}
	if request.Credentials, request.IdempotencyKey, err = headers(r); err != nil {
		return err
	}
	if request.Logins, err = puller.ParseCredentialsConfig(r.Header.Get("X-Registry-Config")); err != nil {
		return err
	}
	request.Caller, request.Rules = input.Caller(r)
	request.TraceParent = tracing.Clean(r.Header.Get("traceparent"))
	dry, err := input.IsTrue(r, "dry_run")
	if err != nil {
		return err
	}
	if dry {
		plan, err := s.plan(r.Context(), request)
		if err != nil {
			return err
		}
		if answers.WantsText(r) {
			writeText(w, http.StatusOK, answers.PlanText(plan))
			return nil
		}
		return s.writeJSON(w, r, http.StatusOK, plan)
	}
	return s.submit(w, r, func() (puller.Job, error) { return s.puller.Prewarm(request) })
}

// plan makes a plan, with a limit on plans at a time.
func (s *Server) plan(ctx context.Context, request puller.PrewarmRequest) (puller.Plan, error) {
	release, err := s.plans.Acquire(ctx, request.Caller)
	if err != nil {
		return puller.Plan{}, err
	}
	defer release() // before the answer is written: the client may read slowly
	return s.puller.Plan(ctx, request)
}

// composeQuery are the query parameters of a request with a Compose file. The file has no
// fields for them.
var composeQuery = []string{"profile", "var", "fail_fast", "platform", "policy", "strict", "priority", "accelerate"}
