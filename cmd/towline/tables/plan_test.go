package tables_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
)

var update = flag.Bool("update", false, "write the golden file")

// nasty is text that moves the cursor, breaks lines and hides what follows.
const nasty = "x\x1b[2J\r\n\x07\u009b31m\u202etxt\u2028\x00\x7f"

func TestPlan(t *testing.T) {
	free := int64(10_000_000)
	plan := puller.Plan{
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
	var out strings.Builder
	if err := tables.Plan(&out, plan); err != nil {
		t.Fatal(err)
	}
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U is printed: %q", r, out.String())
		}
	}
	file := filepath.Join("testdata", "plan.txt")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
