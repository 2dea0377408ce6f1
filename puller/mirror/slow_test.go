package mirror_test

import (
	"bytes"
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
	layer := bytes.Repeat([]byte{0}, 4*mib)
	for _, c := range []struct {
		name, registry string
		ends           bool
	}{{"another", "fast.test", true}, {"the_same", "evil.test", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegistry()
				r.push("evil.test/copy", "1", layer)
				r.repos["evil.test/copy"].trickles = true
				r.push(c.registry+"/app", "1", layer)
				log := logrus.New()
				log.SetOutput(io.Discard)
				store := blobs.New(t.TempDir(), blobs.Options{Cap: 1 << 30, Log: log})
				if err := store.Open(); err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
				all := images.New(images.Options{
					Registry: r, Store: store, Fetcher: fetch.New(fetch.Options{}), Key: make([]byte, 32), FromRegistry: counter, Waited: counter,
				})
				want := func(name, user string) *images.Image {
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
				slow := want("evil.test/copy:1", "eve")
				defer slow.Close()
				<-time.After(5 * time.Second)
				other := want(c.registry+"/app:1", "alice")
				defer other.Close()
				select {
				case <-other.Arrived():
					t.Error("the blob has arrived")
				case <-other.Context().Done():
					if !c.ends || puller.KindOf(context.Cause(other.Context())) != puller.ErrRegistryUnavailable {
						t.Errorf("it ended with %v", context.Cause(other.Context()))
					}
				case <-time.After(time.Minute):
					if c.ends {
						t.Error("it still waits")
					}
				}
			})
		})
	}
}
