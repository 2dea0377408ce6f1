package mirror_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/images"
)

// TestSlowRegistry is a blob that a caller has a registry of their own send very slowly, while
// another caller wants it from another registry. The zeros in it are what the slow one sends.
func TestSlowRegistry(t *testing.T) {
	for _, c := range []struct {
		name, registry string
		size, rate     int // bytes, and bytes a second of each connection
		within         time.Duration
		ends           bool
	}{
		{"another", "fast.test", 4 * mib, 1000, time.Minute, true},
		{"another_less_slow", "fast.test", 32 * mib, 4000, 6 * time.Minute, true},
		{"the_same", "evil.test", 4 * mib, 1000, time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegistry()
				layer := make([]byte, c.size)
				r.push("evil.test/copy", "1", layer)
				r.repos["evil.test/copy"].trickles = c.rate
				r.push(c.registry+"/app", "1", layer)
				all, end := newImages(t, r)
				defer end()
				slow := want(t, all, "evil.test/copy:1", "eve", layer)
				defer slow.Close()
				<-time.After(5 * time.Second)
				other := want(t, all, c.registry+"/app:1", "alice", layer)
				defer other.Close()
				select {
				case <-other.Arrived():
					t.Error("the blob has arrived")
				case <-other.Context().Done():
					if !c.ends || puller.KindOf(context.Cause(other.Context())) != puller.ErrRegistryUnavailable {
						t.Errorf("it ended with %v", context.Cause(other.Context()))
					}
				case <-time.After(c.within):
					if c.ends {
						t.Error("it still waits")
					}
				}
			})
		})
	}
}

// TestSlowProof is a registry that is asked to show a part of a blob that is here, and shows it
// very slowly.
func TestSlowProof(t *testing.T) {
	layer := make([]byte, mib)
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.push("fast.test/app", "1", layer)
		r.push("slow.test/copy", "1", layer)
		r.repos["slow.test/copy"].trickles = 1000
		all, end := newImages(t, r)
		defer end()
		first := want(t, all, "fast.test/app:1", "alice", layer)
		defer first.Close()
		<-first.Arrived()
		other := want(t, all, "slow.test/copy:1", "bob", layer)
		defer other.Close()
		select {
		case <-other.Arrived():
			t.Error("the blob was given")
		case <-other.Context().Done():
			if cause := context.Cause(other.Context()); puller.KindOf(cause) != puller.ErrStalled {
				t.Errorf("it ended with %v", cause)
			}
		case <-time.After(40 * time.Second):
			t.Error("it still waits")
		}
	})
}

// newImages returns images with a cache of their own, and how it is closed.
func newImages(t *testing.T, r *registry) (all *images.Images, end func()) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	store := blobs.New(t.TempDir(), blobs.Options{Cap: 1 << 30, Log: log})
	if err := store.Open(); err != nil {
		t.Fatal(err)
	}
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
	return images.New(images.Options{
		Registry: r, Store: store, Fetcher: fetch.New(fetch.Options{}), Key: make([]byte, 32), FromRegistry: counter, Waited: counter,
	}), store.Close
}

// want opens an image for a user, and has a layer of it fetched.
func want(t *testing.T, all *images.Images, name, user string, layer []byte) *images.Image {
	t.Helper()
	img, err := all.Open(t.Context(), t.Context(), puller.Pull{Image: name, Credentials: login(t, user)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.Manifests.Resolve(t.Context(), "linux/amd64"); err != nil {
		t.Fatal(err)
	}
	img.Want(digest.FromBytes(layer).String())
	return img
}
