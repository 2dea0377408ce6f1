package api

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/api/limits"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/tracing"
)

// createPrewarm is POST /v1/prewarms, with a list of images in JSON or a Compose file.
// With dry_run it answers with the plan and pulls nothing.
func (s *Server) createPrewarm(w http.ResponseWriter, r *http.Request) error {
	var request puller.PrewarmRequest
	var err error
	if isYAML(r) {
		request, err = s.composeRequest(w, r)
	} else if err = refuseQuery(r, composeQuery); err == nil {
		err = decodeBody(w, r, &request)
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
	request.Caller, request.Rules = caller(r)
	request.TraceParent = tracing.Clean(r.Header.Get("traceparent"))
	dry, err := isTrue(r, "dry_run")
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

func isYAML(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (media == "application/yaml" || media == "application/x-yaml" || media == "text/yaml")
}

// readLimit is how long a Compose file may take, its wait included.
const readLimit = 20 * time.Second

// composeRequest reads a Compose file and its query parameters. The error is
// ErrInvalidRequest and names the line or the parameter, or ErrOverloaded.
func (s *Server) composeRequest(w http.ResponseWriter, r *http.Request) (puller.PrewarmRequest, error) {
	q := r.URL.Query()
	variables := make(map[string]string)
	for _, v := range q["var"] {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return puller.PrewarmRequest{}, invalid("var: %q sets no variable; write NAME=VALUE", v)
		}
		variables[name] = value
	}
	failFast, err := isTrue(r, "fail_fast")
	if err != nil {
		return puller.PrewarmRequest{}, err
	}
	strict, err := isTrue(r, "strict")
	if err != nil {
		return puller.PrewarmRequest{}, err
	}
	in := http.NewResponseController(w)
	in.SetReadDeadline(time.Now().Add(bodyLimit))
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	switch {
	case isTooLarge(err):
		return puller.PrewarmRequest{}, invalid("body: larger than 1 MiB")
	case err != nil:
		return puller.PrewarmRequest{}, invalid("body: cut off before its end: %v", err)
	}
	in.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeoutCause(r.Context(), readLimit, limits.Busy())
	defer cancel()
	name, _ := caller(r)
	release, err := s.files.Acquire(ctx, name)
	if err != nil {
		return puller.PrewarmRequest{}, err
	}
	defer release()
	request, err := compose.Parse(ctx, content, variables, q["profile"])
	request.FailFast, request.Strict = failFast, strict
	if v := q.Get("platform"); v != "" {
		request.Platform = v
	}
	request.Policy, request.Priority = puller.Policy(q.Get("policy")), puller.Priority(q.Get("priority"))
	request.Accelerate = puller.Accelerate(q.Get("accelerate"))
	return request, err
}

// refuseQuery refuses query parameters that belong into the body.
func refuseQuery(r *http.Request, names []string) error {
	for _, name := range names {
		if r.URL.Query().Has(name) {
			return invalid("%s: this query parameter is for Compose files; in JSON, write it into the body", name)
		}
	}
	return nil
}
