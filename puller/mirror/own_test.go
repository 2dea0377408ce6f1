package mirror_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
)

// TestOwnName is the pull of the image's own name, which may begin while the engine unpacks
// what it has got under the temporary name.
func TestOwnName(t *testing.T) {
	const name = "registry.test/app:1"
	for _, c := range []struct {
		name, store string
		unpack      error // of the temporary name's pull
		gone        bool  // the tag is gone when it is asked for again
		early       bool
		pulls       int // of the own name
		way         puller.Way
		kind        puller.ErrorKind
	}{
		{"graph_driver", "overlay2", nil, false, true, 1, puller.WayAlias, ""},
		{"containerd_store", puller.StoreContainerd, nil, false, false, 1, puller.WayAlias, ""},
		{"temporary_name_fails", "overlay2", errors.New("no"), false, true, 2, puller.WayNone, ""},
		{"own_name_fails", "overlay2", nil, true, true, 1, puller.WayAlias, puller.ErrRegistryUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry()
			e := newEngine(r)
			e.info.ImageStore = c.store
			r.push("registry.test/app", "1", random(1, 2*mib), random(2, mib))
			b := start(t, r, e, t.TempDir())
			b.pull(t.Context(), puller.Pull{Image: "registry.test/none:1"}) // the trial is over
			begun := make(chan struct{})
			begin := sync.OnceFunc(func() { close(begun) })
			e.onPull = func(reference string) {
				if reference == name {
					begin()
				}
				if c.gone {
					r.mu.Lock()
					defer r.mu.Unlock()
					delete(r.repos["registry.test/app"].manifests, "1")
				}
			}
			e.onUnpack = func(reference string) error {
				if reference == name {
					return nil
				}
				if c.early {
					select {
					case <-begun:
					case <-time.After(10 * time.Second):
						t.Error("the pull of the own name did not begin meanwhile")
					}
					return c.unpack
				}
				select {
				case <-begun:
					t.Error("the pull of the own name has begun")
				default:
				}
				return c.unpack
			}
			got := b.pull(t.Context(), puller.Pull{Image: name})
			if puller.KindOf(got.err) != c.kind || got.how.Way != c.way || sum(r.engine) > 100 { // the configuration
				t.Errorf("it ended with %v: %+v; the engine fetched %d bytes", got.err, got.how, sum(r.engine))
			}
			pulls := 0
			for _, reference := range e.pulled {
				if reference == name {
					pulls++
				}
			}
			if pulls != c.pulls {
				t.Errorf("the engine pulled the own name %d times, not %d", pulls, c.pulls)
			}
			if c.pulls > 1 || c.kind != "" {
				return
			}
			begins, ends := make(map[string]int), 0
			for _, m := range got.messages {
				if slices.Contains([]string{"Pulling fs layer", "Already exists"}, m.Status) {
					begins[m.ID]++
				}
				if strings.HasSuffix(m.Status, "for "+name) {
					ends++
				}
			}
			for id, n := range begins {
				if n != 1 && c.early {
					t.Errorf("it was told %d times how %s begins", n, id)
				}
			}
			if diff := cmp.Diff(1, ends); diff != "" || len(begins) != 2 {
				t.Errorf("%d layers; ends (-want +got):\n%s", len(begins), diff)
			}
		})
	}
}
