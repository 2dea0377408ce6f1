package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

// A registry that refuses in its own words is asked for its status by Towline, so
// that a pull ends as a plan of the same image would.
func TestRefusalExplainedByRegistry(t *testing.T) {
	t.Parallel()
	const sentence = "current image without vulnerability scanning cannot be pulled due to configured policy"
	refused := puller.Errorf(puller.ErrDenied, "412 Precondition Failed: scan it first")
	layer := "failed to register layer: Error processing tar file(exit status 1): archive/tar: invalid tar header"
	of := func(m puller.Manifest) map[string]puller.Manifest {
		return map[string]puller.Manifest{good + " linux/amd64": m}
	}
	for _, c := range []struct {
		name, words string
		registry    *fakeRegistry
		kind        puller.ErrorKind
		said        string
		pulls       int
	}{
		{"denied", "unknown: " + sentence, &fakeRegistry{manifestErr: refused}, puller.ErrDenied, "scan it first", 1},
		{"denied, by the containerd store", "error from registry: " + sentence, &fakeRegistry{manifestErr: refused}, puller.ErrDenied, "scan it first", 1},
		{"not found", "unknown: gone", &fakeRegistry{}, puller.ErrNotFound, "not known", 1},
		{"no image", "unknown: what", &fakeRegistry{manifestErr: puller.Errorf(puller.ErrInvalidRequest, "an artifact")}, puller.ErrInvalidRequest, "an artifact", 1},
		{"the registry says nothing against it", "unknown: hm", &fakeRegistry{manifests: of(puller.Manifest{})}, puller.ErrRegistryUnavailable, "hm", 2},
		{"the registry does not answer", "unknown: hm", &fakeRegistry{manifestErr: puller.Errorf(puller.ErrRegistryUnavailable, "refused")}, puller.ErrRegistryUnavailable, "hm", 2},
		{"towline may not ask it", "unknown: hm", &fakeRegistry{manifestErr: puller.Errorf(puller.ErrForbidden, "private")}, puller.ErrRegistryUnavailable, "hm", 2},
		{"asking counts", "unknown: hm", &fakeRegistry{manifestErr: &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: time.Hour, Err: puller.ErrCounts}}, puller.ErrRegistryUnavailable, "hm", 2},
		{"a zstd layer", layer, &fakeRegistry{manifests: of(puller.Manifest{Zstd: true})}, puller.ErrInvalidRequest, "zstd", 1},
		{"a broken layer", layer, &fakeRegistry{manifests: of(puller.Manifest{})}, puller.ErrCorrupt, "invalid tar header", 2},
		{"a broken layer of a registry that is down", layer, &fakeRegistry{manifestErr: puller.Errorf(puller.ErrRegistryUnavailable, "refused")}, puller.ErrCorrupt, "invalid tar header", 2},
		{"clear words", "unauthorized: authentication required", &fakeRegistry{}, puller.ErrDenied, "unauthorized", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := once
			o.Retries, o.Registry = 1, c.registry
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Script(good, fails(c.words))
				j := d.failed(d.pullAlways(good), c.kind)
				if !strings.Contains(j.Error.Message, c.said) || !strings.Contains(j.Error.Message, c.words) {
					d.Errorf("it says %q", j.Error.Message)
				}
				d.wantPulls(c.pulls)
				for _, q := range c.registry.queries {
					if !q.Free || q.Image != good {
						d.Errorf("the registry was asked for %+v", q)
					}
				}
			})
		})
	}
}
