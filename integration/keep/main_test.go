// Package keep_test tries sets, leases and collections on engines with small disks of their
// own.
package keep_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/integration/lab"
)

// site is what the tests share. Each has its own engine and its own daemon.
var site struct {
	dir      string
	registry *lab.Registry
	bin      string
}

// seeds makes each image another one.
var seeds atomic.Int64

// buildProgram builds what the containers run.
var buildProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(site.dir, "testprogram")
	return path, lab.BuildStatic(context.Background(), "../lab/testdata/testprogram", path)
})

func TestMain(m *testing.M) {
	os.Exit(lab.WithTowline(func(ctx context.Context, dir, bin string) (int, error) { return run(ctx, m, dir, bin) }))
}

func run(ctx context.Context, m *testing.M, dir, bin string) (code int, err error) {
	site.dir, site.bin = dir, bin
	if site.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return 0, err
	}
	defer site.registry.Close()
	return m.Run(), nil
}
