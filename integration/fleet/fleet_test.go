package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// rig is a fleet with a registry, which all hosts reach over one link.
type rig struct {
	*testing.T
	registry *lab.Registry
	link     *lab.Link
	hosts    []*lab.FleetHost
	image    int64 // the number of the next image
}

// options are what a rig may differ in. The zero value is good.
type options struct {
	registry lab.RegistryOptions
	link     lab.LinkOptions
	// config is more YAML of a host, by its number. The link of r is there.
	config  func(r *rig, number int) string
	nats    string // see lab.FleetOptions
	prepare func(number int, dir string) error
}

func newRig(t *testing.T, o options) *rig {
	t.Helper()
	lab.Need(t, site.err)
	r := &rig{T: t, image: time.Now().UnixNano()}
	var err error
	if r.registry, err = lab.StartRegistry(o.registry); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.registry.Close() })
	o.link.Listen = site.network.Address + ":0"
	if r.link, err = lab.StartLink(r.registry.Addr(), o.link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.link.Close() })
	config := func(number int) string {
		if o.config == nil {
			return ""
		}
		return o.config(r, number)
	}
	f, err := lab.StartFleet(t.Context(), lab.FleetOptions{Bin: site.bin, Dir: site.dir, Network: site.network, Engines: site.engines, Config: config, NATS: o.nats, Prepare: o.prepare})
	if err != nil {
		t.Fatal(err)
	}
	r.hosts = f.Hosts
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		for _, h := range r.hosts {
			if t.Failed() {
				t.Logf("%s:\n%s", h.ID, h.Log())
			}
		}
	})
	return r
}

// start starts the towline of a host that has ended.
func (r *rig) start(h *lab.FleetHost) {
	r.Helper()
	if err := h.Start(r.Context()); err != nil {
		r.Fatal(err)
	}
}

// push puts a new image into the registry, and returns its name on the hosts, its digest
// and its size in bytes. All engines forget it at the end.
func (r *rig) push(repo string, layers int, layerBytes int64) (ref, digest string, size int64) {
	r.Helper()
	r.image++
	image, err := lab.RandomImage(r.image, layers, layerBytes, "linux/amd64")
	if err != nil {
		r.Fatal(err)
	}
	if digest, err = r.registry.Push(r.Context(), repo, "v1", image); err != nil {
		r.Fatal(err)
	}
	ref = r.link.Addr() + "/" + repo + ":v1"
	r.Cleanup(func() {
		var all sync.WaitGroup
		for _, h := range r.hosts {
			all.Go(func() { h.Engine.RemoveImage(context.Background(), ref) })
		}
		all.Wait()
	})
	return ref, digest, int64(layers) * layerBytes
}

// apply puts a set, and returns its generation.
func (r *rig) apply(name string, s client.FleetSetRequest) uint64 {
	r.Helper()
	set, err := r.hosts[0].Client.Fleet().PutSet(r.Context(), name, s)
	if err != nil {
		r.Fatal(err)
	}
	return set.Generation
}

// wait waits until a generation is proven wherever it can be, 60 s at most.
func (r *rig) wait(name string, generation uint64) error {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	_, err := r.hosts[0].Client.Fleet().WaitSet(ctx, name, generation)
	return err
}

// has fails unless the engine of each of some hosts has an image with a digest.
func (r *rig) has(ref, digest string, hosts ...*lab.FleetHost) {
	r.Helper()
	for _, h := range hosts {
		digests, err := h.Engine.Digests(r.Context(), ref)
		if err != nil || !slices.ContainsFunc(digests, func(d string) bool { return strings.HasSuffix(d, "@"+digest) }) {
			r.Errorf("%s has %q of %s, not %s: %v", h.ID, digests, ref, digest, err)
		}
	}
}

// member returns how a set stands on a host, as host 0 knows it.
func (r *rig) member(name string, h *lab.FleetHost) (fleet.MemberState, error) {
	set, err := r.hosts[0].Client.Fleet().Set(r.Context(), name, "")
	if err != nil {
		return fleet.MemberState{}, err
	}
	for _, m := range set.Members {
		if m.Host == h.ID {
			return m, nil
		}
	}
	return fleet.MemberState{}, fmt.Errorf("%s is no member of %s: %+v", h.ID, name, set.Members)
}

// stands waits until a set stands on a host as it should.
func (r *rig) stands(name string, h *lab.FleetHost, generation uint64, state fleet.State) (m fleet.MemberState) {
	r.Helper()
	r.eventually(fmt.Sprintf("%s is %s on %s", name, state, h.ID), func() (err error) {
		if m, err = r.member(name, h); err != nil {
			return err
		}
		if m.State != state || state == fleet.StateProven && m.Generation != generation {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	return m
}

func (r *rig) eventually(what string, ok func() error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if err := lab.Poll(ctx, 100*time.Millisecond, func(context.Context) error { return ok() }); err != nil {
		r.Fatalf("%s: %v", what, err)
	}
}

// shared checks that the hosts got an image from each other: without a fleet each of them
// would get all of it. Some bytes may come twice: where another connection takes over from a
// slow one, and where a host does not answer and another one asks the registry.
func (r *rig) shared(image int64) {
	r.Helper()
	if ratio := float64(r.sent()) / float64(image); ratio > 1.1 {
		r.Errorf("the registry sent %.2f times the bytes of the image to %d hosts", ratio, len(r.hosts))
	}
}

// sent returns the bytes of blobs that the registry has sent.
func (r *rig) sent() (n int64) {
	for _, bytes := range r.registry.Counts().BlobBytes {
		n += bytes
	}
	return n
}

func images(refs ...string) []client.PullRequest {
	var all []client.PullRequest
	for _, ref := range refs {
		all = append(all, client.PullRequest{Image: ref})
	}
	return all
}

func TestApply(t *testing.T) {
	r := newRig(t, options{})
	ref, digest, size := r.push("app", 4, 8<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	r.has(ref, digest, r.hosts...)
	r.shared(size)

	t.Run("a tag that moves", func(t *testing.T) {
		image, err := lab.RandomImage(r.image+1_000_000, 1, 4<<20, "linux/amd64")
		if err != nil {
			t.Fatal(err)
		}
		moved, err := r.registry.Push(t.Context(), "app", "v1", image)
		if err != nil {
			t.Fatal(err)
		}
		r.has(ref, digest, r.hosts...) // nobody follows it by itself
		generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
		if err := r.wait("web", generation); err != nil {
			t.Fatal(err)
		}
		r.has(ref, moved, r.hosts...)
	})

	t.Run("labels", func(t *testing.T) {
		ref, digest, _ := r.push("tools", 1, 1<<20)
		generation := r.apply("tools", client.FleetSetRequest{Images: images(ref), Hosts: map[string]string{"role": "ci"}})
		if err := r.wait("tools", generation); err != nil {
			t.Fatal(err)
		}
		r.has(ref, digest, r.hosts[1:]...)
		if id, _ := r.hosts[0].Engine.ImageID(t.Context(), ref); id != "" {
			t.Error("a host without the label has the image")
		}
	})
}

// Who was away catches up to the present generation, and not through those between.
func TestPartition(t *testing.T) {
	r := newRig(t, options{})
	ref, _, _ := r.push("app", 1, 2<<20)
	if err := r.wait("web", r.apply("web", client.FleetSetRequest{Images: images(ref)})); err != nil {
		t.Fatal(err)
	}
	away := r.hosts[len(r.hosts)-1]
	if err := away.Place.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { away.Place.Mend(context.Background()) })
	r.stands("web", away, 1, fleet.StateAway)
	between, _, _ := r.push("between", 1, 2<<20)
	if err := r.wait("web", r.apply("web", client.FleetSetRequest{Images: images(between)})); err != nil {
		t.Fatalf("a host that is away delays the others: %v", err)
	}
	last, digest, _ := r.push("last", 1, 2<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(last)})
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	if err := away.Place.Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stands("web", away, generation, fleet.StateProven)
	r.has(last, digest, r.hosts...)
	if id, _ := away.Engine.ImageID(t.Context(), between); id != "" {
		t.Error("a host that was away has pulled a generation that was over")
	}
}

// A host that is killed in the middle goes on, with what it had and with what others have.
func TestKill(t *testing.T) {
	r := newRig(t, options{link: lab.LinkOptions{Total: 16 << 20}})
	ref, digest, size := r.push("app", 4, 16<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
	r.eventually("half of it has come", func() error {
		if n := r.sent(); n < size/2 {
			return fmt.Errorf("%d of %d bytes", n, size)
		}
		return nil
	})
	h := r.hosts[len(r.hosts)-1]
	h.Kill()
	r.start(h)
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	r.stands("web", h, generation, fleet.StateProven)
	r.has(ref, digest, r.hosts...)
}

// The daemon with the NATS server is killed, and the others go on.
func TestServerKilled(t *testing.T) {
	r := newRig(t, options{})
	ref, digest, _ := r.push("app", 1, 2<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	r.hosts[0].Kill()
	alone := r.hosts[1]
	r.eventually("the others say that it is away", func() error {
		l, err := alone.Client.Fleet().Link(t.Context())
		if err != nil || l.State != fleet.LinkAway || l.Reason == "" {
			return errors.Join(fmt.Errorf("%+v", l), err)
		}
		return nil
	})
	own, ownDigest, _ := r.push("own", 1, 2<<20)
	if j, err := alone.Client.Pull(t.Context(), client.PullRequest{Image: own}); err != nil {
		t.Fatal(err)
	} else if _, err := alone.Client.Wait(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	r.has(own, ownDigest, alone)
	r.start(r.hosts[0])
	for _, h := range r.hosts {
		r.stands("web", h, generation, fleet.StateProven)
	}
	if next := r.apply("web", client.FleetSetRequest{Images: images(ref, own)}); next <= generation {
		t.Errorf("generation %d follows %d", next, generation)
	} else if err := r.wait("web", next); err != nil {
		t.Fatal(err)
	}
	r.has(ref, digest, r.hosts...)
}

// A host whose rules refuse the image stops the rollout, and is named.
func TestRollout(t *testing.T) {
	r := newRig(t, options{config: func(_ *rig, number int) string {
		if number == 1 {
			return "rules: {pull: {deny: [\"*/refused\"]}}\n"
		}
		return ""
	}})
	ref, _, _ := r.push("refused", 1, 1<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(ref), Rollout: fleet.RolloutRequest{Wave: "1", MaxFailures: "0"}})
	err := r.wait("web", generation)
	if err == nil || !strings.Contains(err.Error(), r.hosts[1].ID) {
		t.Errorf("the wait says %v", err)
	}
	m := r.stands("web", r.hosts[1], generation, fleet.StateRefused)
	if m.Kind != puller.ErrForbidden || !strings.Contains(m.Error, "deny") {
		t.Errorf("the host says %+v", m)
	}
	if m, err := r.member("web", r.hosts[len(r.hosts)-1]); err != nil || m.Released {
		t.Errorf("the rollout went on: %+v, %v", m, err)
	}
}

// A private image goes to the hosts whose set names it, with the daemons' login.
func TestPrivate(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, options{
		registry: lab.RegistryOptions{Username: "ci", Password: "secret"},
		config: func(r *rig, number int) string {
			return fmt.Sprintf("registries: {credentials: [{registry: %q, username: ci, password_file: %q}]}\n", r.link.Addr(), password)
		},
	})
	ref, digest, size := r.push("private", 2, 8<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	r.has(ref, digest, r.hosts...)
	r.shared(size)
}
