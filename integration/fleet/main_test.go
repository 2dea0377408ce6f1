// Package fleet_test tries fleets of several hosts: each with a dockerd and a towline of its
// own in a network namespace, a NATS that one of the towlines runs, and a registry that all
// reach over one link.
package fleet_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
)

var size = flag.Int("hosts", 3, "how many hosts the fleet has")

// site is what the tests share: the hosts with their engines. Each test has its own registry,
// images and daemons.
var site struct {
	err     error // why there is none
	dir     string
	bin     string
	network *lab.Network
	engines []*lab.Engine
}

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
	if site.bin, err = lab.BuildTowline(ctx, site.dir, "-race"); err != nil {
		return fail(err)
	}
	if site.network, site.err = lab.StartNetwork(ctx, *size); site.err != nil {
		return m.Run()
	}
	defer site.network.Close()
	site.engines = make([]*lab.Engine, *size)
	errs := make([]error, *size)
	var all sync.WaitGroup
	for i, h := range site.network.Hosts {
		all.Go(func() {
			site.engines[i], errs[i] = lab.Private(ctx, fmt.Sprintf("%s/e%d", site.dir, i), lab.PrivateOptions{
				Namespace: h.Namespace, Flags: []string{"--insecure-registry=" + site.network.Range},
			})
		})
	}
	all.Wait()
	site.err = errors.Join(errs...)
	defer func() {
		for _, engine := range site.engines {
			if engine != nil {
				all.Go(func() { engine.Close() })
			}
		}
		all.Wait()
	}()
	return m.Run()
}
