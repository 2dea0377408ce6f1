package answers

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towline/towline/puller"
)

// promised is the table of error kinds that scripts rely on.
var promised = map[puller.ErrorKind]struct {
	status    int
	retryable bool
}{
	"invalid_request": {400, false}, "unauthorized": {401, false}, "forbidden": {403, false}, "denied": {403, false},
	"not_found": {404, false}, "conflict": {409, false}, "canceled": {409, false}, "platform_mismatch": {422, false},
	"rate_limited": {429, true}, "engine_unavailable": {503, true}, "registry_unavailable": {502, true},
	"truncated": {502, true}, "corrupt": {502, true}, "stalled": {504, true}, "timeout": {504, false},
	"no_space": {507, false}, "overloaded": {503, true}, "internal": {500, false},
}

func TestKinds(t *testing.T) {
	if len(kinds) != len(promised) {
		t.Errorf("there are %d kinds, want %d", len(kinds), len(promised))
	}
	for kind, want := range promised {
		p := NewProblem(kind, "x")
		expected := Problem{Kind: kind, Status: want.status, Retryable: want.retryable, Title: p.Title, Type: "urn:towline:problem:" + string(kind), Detail: "x"}
		if diff := cmp.Diff(expected, p, cmpopts.IgnoreUnexported(Problem{})); diff != "" || p.Title == "" {
			t.Errorf("%s, titled %q (-want +got):\n%s", kind, p.Title, diff)
		}
	}
}

func TestErrorWithoutKind(t *testing.T) {
	for _, err := range []error{errors.New("x"), puller.Errorf("nobody_knows", "x")} {
		if p := ProblemOf(err); p.Kind != puller.ErrInternal || p.Status != 500 {
			t.Errorf("%v: %+v", err, p)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	limited := puller.Errorf(puller.ErrRateLimited, "x")
	limited.RetryAfter = 1500 * time.Millisecond
	for name, p := range map[string]Problem{
		"of an error": ProblemOf(fmt.Errorf("wrapped: %w", limited)),
		"of a job":    ProblemOfJob(puller.Job{Error: &puller.JobError{Kind: puller.ErrRateLimited, RetryAfterSeconds: 1.5}}),
	} {
		w := httptest.NewRecorder()
		WriteProblem(w, httptest.NewRequest("GET", "/", nil), p)
		if got := w.Header().Get("Retry-After"); got != "2" || w.Code != 429 {
			t.Errorf("%s: %d, Retry-After %q", name, w.Code, got)
		}
	}
	w := httptest.NewRecorder()
	WriteProblem(w, httptest.NewRequest("GET", "/", nil), NewProblem(puller.ErrNotFound, "x"))
	if _, there := w.Header()["Retry-After"]; there {
		t.Error("a problem that nobody knows the end of has a Retry-After")
	}
}
