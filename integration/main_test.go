package integration_test

import (
	"context"
	"flag"
	"os"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
)

// site is what the tests share: a dockerd of our own, a registry, and the
// towline binary. Each test has its own images and its own daemon.
var site struct {
	err      error // why there is no engine
	dir      string
	engine   *lab.Engine
	registry *lab.Registry
	bin      string
}

func TestMain(m *testing.M) {
	os.Exit(lab.WithTowline(func(ctx context.Context, dir, bin string) (int, error) { return run(ctx, m, dir, bin) }))
}

func run(ctx context.Context, m *testing.M, dir, bin string) (code int, err error) {
	site.dir, site.bin = dir, bin
	if site.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return 0, err
	}
	defer site.registry.Close()
	site.engine, site.err = lab.Private(ctx, site.dir, lab.PrivateOptions{})
	if site.err == nil {
		defer site.engine.Close()
	}
	if flag.Lookup("test.run").Value.String() == "" {
		// The tests of the dashboard come last and need a browser. Its installation
		// takes a minute, which passes during the others. They report what went wrong.
		go lab.Chromium(context.WithoutCancel(ctx), nil)
	}
	return m.Run(), nil
}

var seeds atomic.Int64

// push puts a new image into the registry and returns its name and digest. The
// engine forgets it at the end of the test.
func push(t *testing.T, repo string, layers int, layerBytes int64) (ref, digest string) {
	t.Helper()
	lab.Need(t, site.err)
	image, err := lab.RandomImage(seeds.Add(1), layers, layerBytes, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if digest, err = site.registry.Push(t.Context(), repo, "v1", image); err != nil {
		t.Fatal(err)
	}
	ref = site.registry.Ref(repo, "v1")
	t.Cleanup(func() { remove(t, ref) })
	return ref, digest
}

func remove(t *testing.T, ref string) {
	t.Helper()
	if err := site.engine.RemoveImage(context.Background(), ref); err != nil {
		t.Error(err)
	}
}

// daemon starts a towline that drives the shared engine.
func daemon(t *testing.T) (*lab.Towline, *client.Client) {
	t.Helper()
	lab.Need(t, site.err)
	return daemonWith(t, lab.TowlineOptions{EngineHost: site.engine.Host})
}

func daemonWith(t *testing.T, opts lab.TowlineOptions) (*lab.Towline, *client.Client) {
	t.Helper()
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	d, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(d.Host, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := d.Stop(); err != nil {
			t.Errorf("the daemon did not end well: %v\n%s", err, d.Log())
		}
		if t.Failed() {
			t.Log(d.Log())
		}
	})
	return d, c
}
