package mirror_test

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/puller/mirror/endpoint"
)

const app = "registry.test/app"

// through is a Mirror that serves public images to pulls that are not Towline's, on a clock of
// its own.
func through(t *testing.T, name string, cache int64, test func(t *testing.T, r *registry, m *mirror.Mirror, c endpoint.Content)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegistry()
			log := logrus.New()
			log.SetOutput(io.Discard)
			m := mirror.New(mirror.Options{
				Engine: newEngine(r), Registry: r, Dir: t.TempDir(), Mode: "auto", PullThrough: true,
				Connections: 8, PerRegistry: 8, Chunk: mib, Cache: cache, Log: log,
			})
			c, end, err := m.OpenContent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			test(t, r, m, c)
		})
	})
}

// layer opens the first layer of an image, as an engine does.
func layer(t *testing.T, c endpoint.Content, tag string) (endpoint.Blob, error) {
	t.Helper()
	raw, err := c.Manifest(t.Context(), "registry.test", "app", tag)
	if err != nil {
		return nil, err
	}
	if raw, err = c.Manifest(t.Context(), "registry.test", "app", raw.Digest); err != nil {
		return nil, err
	}
	var m struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(raw.Body, &m); err != nil {
		return nil, err
	}
	return c.Blob(t.Context(), "registry.test", "app", m.Layers[0].Digest)
}

// drain reads a blob to its end.
func drain(t *testing.T, b endpoint.Blob, err error) error {
	t.Helper()
	if err != nil {
		return err
	}
	defer b.Close()
	in := b.NewReader(t.Context(), 0)
	defer in.Close()
	n, err := io.Copy(io.Discard, in)
	if err == nil && n != b.Size() {
		err = fmt.Errorf("%d bytes of %d", n, b.Size())
	}
	return err
}

func TestPublic(t *testing.T) {
	// Something new of a repository is asked for all the time, and one image again and again.
	through(t, "always_asked", 60*mib, func(t *testing.T, r *registry, m *mirror.Mirror, c endpoint.Content) {
		r.push(app, "popular", random(1000, 3*mib))
		for n := range 60 {
			r.push(app, fmt.Sprint(n), random(uint64(n), 3*mib))
			for _, tag := range []string{"popular", fmt.Sprint(n)} {
				b, err := layer(t, c, tag)
				if err := drain(t, b, err); err != nil {
					t.Fatalf("%s, after %d others: %v", tag, n, err)
				}
			}
			if parts := m.Parts(); parts > 4 {
				t.Fatalf("%d parts are remembered", parts)
			}
			<-time.After(2 * time.Minute)
		}
		if sent := sum(r.sent); sent > 62*3*mib {
			t.Errorf("the registry sent %d bytes", sent)
		}
		<-time.After(20 * time.Minute)
		if parts := m.Parts(); parts != 0 {
			t.Errorf("%d parts are remembered that nobody asks for", parts)
		}
	})
	through(t, "slow_engine", 60*mib, func(t *testing.T, r *registry, _ *mirror.Mirror, c endpoint.Content) {
		r.push(app, "1", random(1, 3*mib))
		b, err := layer(t, c, "1")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		in := b.NewReader(t.Context(), 0)
		defer in.Close()
		for range 3 {
			if _, err := io.CopyN(io.Discard, in, mib); err != nil {
				t.Fatal(err)
			}
			<-time.After(11 * time.Minute)
		}
	})
	// A local process asks for whatever a registry of its own has.
	through(t, "many_manifests", 60*mib, func(t *testing.T, r *registry, m *mirror.Mirror, c endpoint.Content) {
		r.push(app, "1", random(1, mib))
		refused := 0
		long := strings.Repeat("x", mib)
		for n := range 110 {
			body := []byte(`{"schemaVersion":2,"manifests":[],"n":` + strconv.Itoa(n) + `,"x":"` + long + `"}`)
			id := digest.FromBytes(body).String()
			r.repos[app].manifests[id] = body
			if _, err := c.Manifest(t.Context(), "registry.test", "app", id); puller.KindOf(err) == puller.ErrOverloaded {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
			delete(r.repos[app].manifests, id)
		}
		if refused != 10 {
			t.Errorf("%d of 110 were refused", refused)
		}
		<-time.After(11 * time.Minute)
		b, err := layer(t, c, "1")
		if err := drain(t, b, err); err != nil {
			t.Error(err)
		}
	})
}
