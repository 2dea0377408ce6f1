// Bench measures Towline against docker pull on a real engine and a real
// registry of its own. A figure is a ratio to docker pull in the same run,
// pair by pair, as median and spread: absolute times say more about the
// machine than about Towline.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/towline/towline/integration/lab"
)

func main() {
	pairs := flag.Int("pairs", 15, "cold pulls of each kind")
	warm := flag.Int("warm", 20, "rounds of warm pulls, each of ten of a kind")
	pulls := flag.Int("pulls", 1000, "pulls after which nothing may be left")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *pairs, *warm, *pulls); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// site is what every benchmark uses.
type site struct {
	engine   *lab.Engine
	registry *lab.Registry
	bin      string
	daemon   *lab.Towline
}

func run(ctx context.Context, pairs, warm, pulls int) (err error) {
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var s site
	if s.engine, err = lab.Private(ctx, dir, lab.PrivateOptions{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.engine.Close()) }()
	if s.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return err
	}
	defer s.registry.Close()
	if s.bin, err = lab.BuildTowline(ctx, dir); err != nil {
		return err
	}
	if s.daemon, err = lab.StartTowline(ctx, s.bin, dir, lab.TowlineOptions{EngineHost: s.engine.Host}); err != nil {
		return err
	}
	defer s.daemon.Stop()
	fmt.Printf("%d processors, %s; medians [least … most]\n", runtime.NumCPU(), runtime.Version())
	return errors.Join(s.cold(ctx, pairs), s.warm(ctx, warm), s.leaks(ctx, pulls))
}

// spread is a set of measurements.
type spread []float64

func (s *spread) add(v float64) { *s = append(*s, v) }

func (s spread) String() string {
	sorted := slices.Sorted(slices.Values(s))
	return fmt.Sprintf("%.4g [%.4g … %.4g]", sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1])
}

// seconds measures one call.
func seconds(do func() error) (float64, error) {
	start := time.Now()
	err := do()
	return time.Since(start).Seconds(), err
}

// inARow measures some calls, one after the other, and returns their mean.
func inARow(n int, do func() error) (float64, error) {
	total, err := seconds(func() error {
		for range n {
			if err := do(); err != nil {
				return err
			}
		}
		return nil
	})
	return total / float64(n), err
}
