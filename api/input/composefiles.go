package input

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/api/limits"
	"github.com/towline/towline/puller"
)

// ComposeFiles reads the Compose files of requests, some at a time.
type ComposeFiles struct{ work *limits.Work }

// NewComposeFiles returns ComposeFiles.
func NewComposeFiles() ComposeFiles { return ComposeFiles{limits.NewComposeFiles()} }

// readLimit is how long a Compose file may take, its wait included.
const readLimit = 20 * time.Second

// Read reads a Compose file and its query parameters. The error is
// ErrInvalidRequest and names the line or the parameter, or ErrOverloaded.
func (f ComposeFiles) Read(w http.ResponseWriter, r *http.Request) (puller.PrewarmRequest, error) {
	q := r.URL.Query()
	variables := make(map[string]string)
	for _, v := range q["var"] {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return puller.PrewarmRequest{}, Invalid("var: %q sets no variable; write NAME=VALUE", v)
		}
		variables[name] = value
	}
	failFast, err := IsTrue(r, "fail_fast")
	if err != nil {
		return puller.PrewarmRequest{}, err
	}
	strict, err := IsTrue(r, "strict")
	if err != nil {
		return puller.PrewarmRequest{}, err
	}
	in := http.NewResponseController(w)
	in.SetReadDeadline(time.Now().Add(BodyLimit))
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	switch {
	case isTooLarge(err):
		return puller.PrewarmRequest{}, Invalid("body: larger than 1 MiB")
	case err != nil:
		return puller.PrewarmRequest{}, Invalid("body: cut off before its end: %v", err)
	}
	in.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeoutCause(r.Context(), readLimit, limits.Busy())
	defer cancel()
	name, _ := Caller(r)
	release, err := f.work.Acquire(ctx, name)
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
