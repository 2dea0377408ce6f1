package jobs_test

import (
	"net/http"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		policy   puller.Policy
		platform string
		there    int // the seed of the image that is there, 0 for none
		source   puller.Source
		kind     puller.ErrorKind
		pulls    int
	}{
		{"missing and present does not pull", puller.PolicyMissing, "", 1, puller.SourcePresent, "", 0},
		{"missing and absent pulls", puller.PolicyMissing, "", 0, puller.SourcePulled, "", 1},
		{"missing is the default", "", "", 1, puller.SourcePresent, "", 0},
		{"missing and present for the platform does not pull", puller.PolicyMissing, "linux/amd64", 1, puller.SourcePresent, "", 0},
		{"missing and present for the baseline variant does not pull", puller.PolicyMissing, "linux/amd64/v1", 1, puller.SourcePresent, "", 0},
		{"missing and present for another platform pulls", puller.PolicyMissing, "linux/arm64", 1, puller.SourcePulled, "", 1},
		{"never and present is good", puller.PolicyNever, "", 1, puller.SourcePresent, "", 0},
		{"never and absent is not found", puller.PolicyNever, "", 0, "", puller.ErrNotFound, 0},
		{"never and present for another platform is not found", puller.PolicyNever, "linux/arm64", 1, "", puller.ErrNotFound, 0},
		{"always and unchanged pulls and finds nothing new", puller.PolicyAlways, "", 2, puller.SourceUpToDate, "", 1},
		{"always and changed pulls", puller.PolicyAlways, "", 1, puller.SourcePulled, "", 1},
		{"always and absent pulls", puller.PolicyAlways, "", 0, puller.SourcePulled, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				if c.there != 0 {
					d.engine.Tag(good, enginetest.NewImage(good, c.there))
				}
				served := enginetest.NewImage(good, 2)
				if c.platform != "" {
					served.Platform = c.platform
				}
				d.engine.Script(good, enginetest.Serve(served))
				j := d.submit(puller.PullRequest{Image: good, Policy: c.policy, Platform: c.platform})
				if c.kind != "" {
					d.failed(j, c.kind)
				} else if v := d.succeeded(j, c.source); v.Result.Digest == "" || v.Result.ImageID == "" || v.Result.Size != 2000 {
					d.Errorf("the result lacks something: %+v", v.Result)
				}
				d.wantPulls(c.pulls)
			})
		})
	}
}

// An engine finds an image by a name that is then taken from it, and tells of an
// image without any.
func TestPolicyUntaggedImage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy puller.Policy
		kind   puller.ErrorKind
		pulls  int
	}{{puller.PolicyMissing, "", 1}, {puller.PolicyNewer, "", 1}, {puller.PolicyNever, puller.ErrNotFound, 0}} {
		t.Run(string(c.policy), func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				removed := enginetest.NewImage(good, 1)
				removed.RepoTags, removed.RepoDigests = nil, nil
				d.engine.Tag(good, removed)
				d.serve(good)
				j := d.submit(puller.PullRequest{Image: good, Policy: c.policy})
				if c.kind != "" {
					d.failed(j, c.kind)
				} else {
					d.succeeded(j, puller.SourcePulled)
				}
				d.wantPulls(c.pulls)
			})
		})
	}
}

func TestPolicyCheckFails(t *testing.T) {
	t.Parallel()
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNever, puller.PolicyAlways} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				d.serve(good)
				d.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
					return http.StatusInternalServerError, "the store is broken"
				})
				d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy}), puller.ErrInternal)
				d.wantPulls(0)
			})
		})
	}
}
