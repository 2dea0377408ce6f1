// Package keep_test tries sets, leases and collections on engines with small disks of their
// own.
package keep_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if site.dir, err = os.MkdirTemp("", "tl"); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(site.dir)
	if site.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return fail(err)
	}
	defer site.registry.Close()
	if site.bin, err = lab.BuildTowline(ctx, site.dir, "-race"); err != nil {
		return fail(err)
	}
	return m.Run()
}
