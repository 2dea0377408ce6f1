package mirror_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/puller/mirror/sharing"
)

// fleetOf is hosts that share some images.
type fleetOf struct {
	mu      sync.Mutex
	images  map[sharing.Image]bool
	members []fleet.Member
}

func (f *fleetOf) share(repository, digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[sharing.Image{Repository: repository, Digest: digest}] = true
}

// member is a host's view of it. It implements fleet.Groups.
type member struct {
	*fleetOf
	self string
}

func (m member) Group(repository, digest string) (fleet.Group, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ok := m.images[sharing.Image{Repository: repository, Digest: digest}]
	return fleet.Group{Set: "s", Generation: 1, Self: m.self, Members: m.members, Key: []byte("k")}, ok
}

func (m member) Keyed(_ string, _ uint64, repository, digest string) (fleet.Group, bool) {
	return m.Group(repository, digest)
}

// startFleet starts Mirrors that share what is given to share.
func startFleet(t *testing.T, r *registry, n int, change ...options) (*fleetOf, []*bench) {
	t.Helper()
	f := &fleetOf{images: make(map[sharing.Image]bool)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	all := make([]*bench, n)
	for i := range all {
		self := string(rune('a' + i))
		node := peers.New(peers.Options{Groups: member{f, self}, Chunk: 256 << 10, Log: log})
		all[i] = start(t, r, newEngine(r), t.TempDir(), append(change, func(o *mirror.Options) { o.Peers = node })...)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := node.Run(ctx, l, all[i].Mirror); err != nil {
				t.Error(err)
			}
		}()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
		f.members = append(f.members, fleet.Member{Host: self, Address: l.Addr().String()})
	}
	return f, all
}

func TestShared(t *testing.T) {
	const repository = "registry.test/app"
	t.Run("bytes", func(t *testing.T) {
		r := newRegistry()
		id := r.push(repository, "1", random(1, 3*mib), random(2, 2*mib+5))
		f, all := startFleet(t, r, 3, func(o *mirror.Options) { o.MinSize = 1 << 40 })
		f.share(repository, id)
		var wait sync.WaitGroup
		ended := make([]pulled, len(all))
		for i, b := range all {
			wait.Go(func() { ended[i] = b.pull(t.Context(), puller.Pull{Image: repository + "@" + id}) })
		}
		wait.Wait()
		var sent int64
		for i, got := range ended {
			if got.err != nil || got.how.Way != puller.WayAlias || !strings.Contains(got.how.Reason, "share the image") || len(got.notices()) > 0 {
				t.Fatalf("%d: %v, %+v, %v", i, got.err, got.how, got.notices())
			}
			if total := got.how.FromRegistry + got.how.FromPeers + got.how.FromCache; total < 5*mib || got.how.FromPeers < 2*mib {
				t.Errorf("%d: %+v", i, got.how)
			}
			sent += got.how.FromRegistry
		}
		// On a busy machine connections take over from slow ones, and what those send is lost.
		if from := sum(r.sent); from > 5*mib*12/10 || sent > 5*mib*11/10 || sent > from {
			t.Errorf("the registry has sent %d bytes; the results say %d", from, sent)
		}
		if len(r.reads) > 2 { // by the hosts; the engines ask beside
			t.Errorf("the hosts asked for the manifests %v", r.reads)
		}
	})
	t.Run("not_for_callers", func(t *testing.T) {
		r := newRegistry()
		id := r.push(repository, "1", random(1, 2*mib))
		f, all := startFleet(t, r, 2)
		f.share(repository, id)
		r.repos[repository].password = login(t, "me").Header()
		got := all[0].pull(t.Context(), puller.Pull{Image: repository + "@" + id, Credentials: login(t, "me")})
		if got.err != nil || strings.Contains(got.how.Reason, "share") || got.how.FromPeers != 0 {
			t.Fatalf("%v, %+v", got.err, got.how)
		}
		// What they fetched is given to nobody whom the registry does not show it.
		r.own = puller.Credentials{}
		held, err := all[0].Open(t.Context(), sharing.Image{Repository: repository, Digest: id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := held.Read(t.Context(), id); puller.KindOf(err) != puller.ErrDenied {
			t.Errorf("the manifest is read: %v", err)
		}
	})
	t.Run("own_credentials", func(t *testing.T) {
		r := newRegistry()
		id := r.push(repository, "1", random(1, 2*mib))
		f, all := startFleet(t, r, 2)
		f.share(repository, id)
		r.repos[repository].password, r.own = login(t, "me").Header(), login(t, "me")
		for _, b := range all {
			if got := b.pull(t.Context(), puller.Pull{Image: repository + "@" + id, Credentials: login(t, "me")}); got.err != nil || !strings.Contains(got.how.Reason, "share") {
				t.Fatalf("%v, %+v", got.err, got.how)
			}
		}
		if from := sum(r.sent); from > 2*mib*11/10 {
			t.Errorf("the registry has sent %d bytes", from)
		}
	})
	t.Run("other_repository", func(t *testing.T) {
		// Who chooses a manifest can name any digest in it.
		r := newRegistry()
		layer := random(1, 2*mib)
		private := r.push("registry.test/private", "1", layer)
		id := r.push(repository, "1", layer)
		f, all := startFleet(t, r, 2)
		f.share("registry.test/private", private)
		f.share(repository, id)
		if got := all[0].pull(t.Context(), puller.Pull{Image: "registry.test/private@" + private}); got.err != nil {
			t.Fatal(got.err)
		}
		for layer := range r.repos[repository].blobs {
			delete(r.repos[repository].blobs, layer) // it lists what it has not
		}
		held, err := all[0].Open(t.Context(), sharing.Image{Repository: repository, Digest: id})
		if err != nil {
			t.Fatal(err)
		}
		for layer := range r.repos["registry.test/private"].blobs {
			if _, _, err := held.Use(t.Context(), id, layer); err == nil {
				t.Errorf("%s is given", layer)
			}
		}
	})
	t.Run("demand", func(t *testing.T) {
		// A host that pulls nothing itself brings what others ask for.
		r := newRegistry()
		id := r.push(repository, "1", random(1, 4*mib))
		f, all := startFleet(t, r, 4)
		f.share(repository, id)
		for range 2 {
			if got := all[0].pull(t.Context(), puller.Pull{Image: repository + "@" + id}); got.err != nil {
				t.Fatal(got.err)
			}
		}
		if from := sum(r.sent); from > 4*mib*11/10 {
			t.Errorf("the registry has sent %d bytes", from)
		}
		if got := all[1].pull(t.Context(), puller.Pull{Image: repository + "@" + id}); got.err != nil {
			t.Fatal(got.err)
		}
		if from := sum(r.sent); from > 4*mib*11/10 {
			t.Errorf("the registry has sent %d bytes for a second host", from)
		}
		// Another pull takes over what only others asked for.
		if got := all[2].pull(t.Context(), puller.Pull{Image: repository + ":1"}); got.err != nil || got.how.Way != puller.WayAlias {
			t.Errorf("%v, %+v", got.err, got.how)
		}
	})
	t.Run("mirror_way", func(t *testing.T) {
		r := newRegistry()
		id := r.push(repository, "1", random(1, 2*mib))
		hosts := t.TempDir()
		f, all := startFleet(t, r, 2, func(o *mirror.Options) {
			o.HostsDir = hosts
			e := o.Engine.(*engine)
			e.info.ImageStore, e.hosts = puller.StoreContainerd, hosts+"/_default/hosts.toml"
		})
		f.share(repository, id)
		got := all[0].pull(t.Context(), puller.Pull{Image: repository + "@" + id})
		if got.err != nil || !strings.Contains(got.how.Reason, "share") {
			t.Fatalf("%v, %+v", got.err, got.how)
		}
		r.repos[repository].password = login(t, "me").Header() // now it is private
		got = all[0].pull(t.Context(), puller.Pull{Image: repository + "@" + id})
		if got.how.Way == puller.WayMirror {
			t.Errorf("a private image goes the mirror way: %+v", got.how)
		}
	})
}
