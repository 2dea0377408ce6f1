package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
)

func TestPlanExitCode(t *testing.T) {
	fault := func(image string, kind puller.ErrorKind, message string) puller.PlannedImage {
		return puller.PlannedImage{Image: image, Status: puller.StatusMissing, Error: &puller.JobError{Kind: kind, Message: message, Retryable: kind.Retryable()}}
	}
	images := []puller.PlannedImage{
		{Image: "docker.io/library/alpine:3.20", Status: puller.StatusPresent},
		fault("down.test/x:v1", puller.ErrRegistryUnavailable, "dial tcp: refused"),
		fault("registry.test/nope:v1", puller.ErrNotFound, "registry.test/nope:v1: manifest unknown"),
	}
	for n, want := range []int{0, exit.CodeRetryable, exit.CodePermanent} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				json.NewEncoder(w).Encode(puller.Plan{Images: images[:n+1]})
			}))
			defer daemon.Close()
			call := func(flags ...string) (out, errs string) {
				t.Helper()
				code, out, errs, err := runApart(t.Context(), append([]string{"prewarm", "alpine", "--plan", "--host", daemon.URL}, flags...)...)
				if code != want {
					t.Errorf("%q: exit code %d, want %d: %v", flags, code, want, err)
				}
				if n == 2 {
					checkWords(t, errs, "failed: registry.test/nope:v1\n    not_found: manifest unknown\n")
				}
				return out, errs
			}
			if out, _ := call(); !strings.HasPrefix(out, "IMAGE ") {
				t.Errorf("the plan is no table:\n%s", out)
			}
			out, _ := call("--json")
			var p puller.Plan
			if err := json.Unmarshal([]byte(out), &p); err != nil || len(p.Images) != n+1 {
				t.Errorf("%v: %s", err, out)
			}
			if out, errs := call("--quiet"); out != "" || want == 0 && errs != "" {
				t.Errorf("--quiet prints %q and %q", out, errs)
			}
		})
	}
}
