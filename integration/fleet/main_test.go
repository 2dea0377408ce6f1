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

func TestMain(m *testing.M) {
	os.Exit(lab.WithTowline(func(ctx context.Context, dir, bin string) (int, error) { return run(ctx, m, dir, bin) }))
}

func run(ctx context.Context, m *testing.M, dir, bin string) (code int, err error) {
	site.dir, site.bin = dir, bin
	if site.network, site.err = lab.StartNetwork(ctx, *size); site.err != nil {
		return m.Run(), nil
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
	return m.Run(), nil
}
