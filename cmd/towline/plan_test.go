package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

// planned is a plan with something of everything in it.
func planned() puller.Plan {
	free := int64(10_000_000)
	return puller.Plan{
		Images: []puller.PlannedImage{
			{Image: "docker.io/library/alpine:3.20", Policy: puller.PolicyMissing, Status: puller.StatusPresent, Digest: "sha256:1d"},
			{
				Image: "registry.test/app:v1", Platform: "linux/arm64", Policy: puller.PolicyMissing, Status: puller.StatusMissing,
				Weight: &puller.Weight{Size: 30_000_000, Fetch: 12_000_000, Layers: 5, LayersPresent: 2, LayersShared: 1},
			},
			{Image: "registry.test/old:v1", Policy: puller.PolicyNewer, Status: puller.StatusStale, Weight: &puller.Weight{Size: 1000, Fetch: 1000, Layers: 1}},
			{Image: "registry.test/open:v1", Policy: puller.PolicyMissing, Status: puller.StatusMissing},
			{Image: "down.test/x:v1", Policy: puller.PolicyMissing, Status: puller.StatusMissing, Error: &puller.JobError{Kind: puller.ErrRegistryUnavailable, Message: "dial tcp: refused", Retryable: true}},
			{Image: "registry.test/nope:v1", Policy: puller.PolicyMissing, Status: puller.StatusMissing, Error: &puller.JobError{Kind: puller.ErrNotFound, Message: "registry.test/nope:v1: manifest unknown"}},
		},
		Fetch: 12_001_000, Shared: 8_000_000, Present: 10_000_000, EngineFree: &free,
		Notes:   []string{"the engine's disk has 10.0 MB left" + nasty},
		Skipped: []puller.Skipped{{Service: "web", Reason: "it is built"}},
	}
}

func TestAPlanIsATable(t *testing.T) {
	var out strings.Builder
	if err := writePlan(&out, planned()); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "plan/all", out.String())
	checkClean(t, out.String())
}

func TestThePlansExitCodeIsThatOfThePrewarm(t *testing.T) {
	all := planned()
	for _, row := range []struct {
		images []puller.PlannedImage
		want   int
	}{
		{all.Images[:4], 0},
		{all.Images[:5], exitRetryable},
		{all.Images, exitPermanent},
	} {
		daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p := all
			p.Images, p.Skipped = row.images, nil
			json.NewEncoder(w).Encode(p)
		}))
		defer daemon.Close()
		for _, how := range []string{"", "--json", "--quiet"} {
			args := []string{"prewarm", "alpine", "--plan", "--host", daemon.URL}
			if how != "" {
				args = append(args, how)
			}
			code, out, err := run(t.Context(), args...)
			if code != row.want {
				t.Errorf("%d images: %d, want %d: %v\n%s", len(row.images), code, row.want, err, out)
			}
			switch line, _, _ := strings.Cut(out, "\n"); how {
			case "":
				if !strings.HasPrefix(line, "IMAGE ") {
					t.Errorf("it is no table:\n%s", out)
				}
			case "--json":
				var p puller.Plan
				if err := json.Unmarshal([]byte(line), &p); err != nil || len(p.Images) != len(row.images) {
					t.Errorf("%v: %s", err, out)
				}
			case "--quiet":
				if row.want == 0 && out != "" {
					t.Errorf("it prints %q", out)
				}
			}
			if row.want == exitPermanent && !strings.Contains(out, "failed: registry.test/nope:v1\n    not_found: manifest unknown\n") {
				t.Errorf("it is not said what is wrong:\n%s", out)
			}
		}
	}
}
