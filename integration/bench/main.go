// Bench measures Towline against docker pull and docker run on a real engine and a real
// registry of its own, what it keeps against the disk it keeps it on, and what its
// readers cost against an engine's, a naive handler's and a bare loop's. A
// figure is a ratio to a peer in the same run, pair by pair, as median and
// spread: absolute times say more about the machine than about Towline.
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
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/integration/lab"
)

func main() {
	if len(os.Args) > 1 {
		if role := roles()[os.Args[1]]; role != nil {
			os.Exit(act(role))
		}
	}
	var o options
	flag.IntVar(&o.pairs, "pairs", 15, "cold pulls, and runs, of each kind")
	flag.IntVar(&o.warm, "warm", 20, "rounds of warm pulls, each of ten of a kind")
	flag.IntVar(&o.pulls, "pulls", 1000, "pulls after which nothing may be left")
	flag.IntVar(&o.runs, "runs", 5, "runs of accepted jobs, on each disk, and of pages of images")
	flag.IntVar(&o.jobs, "jobs", 100_000, "jobs that have ended in the store")
	flag.IntVar(&o.readers, "readers", 10_000, "readers of one pull; a fifth as many where half of them stop reading")
	flag.IntVar(&o.layers, "layers", 40, "layers of the pull that they read, 20 at a time")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds with readers, of each kind")
	only := flag.String("only", "cold,warm,run,leaks,accept,store,images,fan,single,stopped,flood", "what to measure")
	flag.Parse()
	o.only = strings.Split(*only, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	pairs, warm, pulls, runs, jobs int
	readers, layers, rounds        int
	only                           []string
}

func (o options) any(sections ...string) bool {
	return slices.ContainsFunc(sections, func(s string) bool { return slices.Contains(o.only, s) })
}

// site is what every benchmark uses.
type site struct {
	dir, bin string

	// Of those that pull:
	engine   *lab.Engine
	registry *lab.Registry
	daemon   *lab.Towline
}

func run(ctx context.Context, o options) (err error) {
	var s site
	if s.dir, err = os.MkdirTemp("", "tl"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if s.bin, err = lab.BuildTowline(ctx, s.dir); err != nil {
		return err
	}
	fmt.Printf("%d processors, %s; medians [least … most]\n", runtime.NumCPU(), runtime.Version())
	if o.any("accept") {
		err = s.accept(ctx, o.runs)
	}
	if o.any("store") {
		err = errors.Join(err, s.store(ctx, o.jobs))
	}
	if o.any("images") {
		err = errors.Join(err, s.images(ctx, o.runs))
	}
	if o.any("cold", "warm", "run", "leaks") {
		err = errors.Join(err, s.pulls(ctx, o))
	}
	if o.any("fan", "single", "stopped", "flood") {
		err = errors.Join(err, s.manyReaders(ctx, o))
	}
	return err
}

// pulls measures on an engine.
func (s *site) pulls(ctx context.Context, o options) (err error) {
	if s.engine, err = lab.Private(ctx, s.dir, lab.PrivateOptions{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.engine.Close()) }()
	if s.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return err
	}
	defer s.registry.Close()
	if s.daemon, err = lab.StartTowline(ctx, s.bin, s.dir, lab.TowlineOptions{EngineHost: s.engine.Host}); err != nil {
		return err
	}
	defer s.daemon.Stop()
	if o.any("cold") {
		err = s.cold(ctx, o.pairs)
	}
	if o.any("warm") {
		err = errors.Join(err, s.warm(ctx, o.warm))
	}
	if o.any("run") {
		err = errors.Join(err, s.runs(ctx, o.pairs))
	}
	if o.any("leaks") {
		err = errors.Join(err, s.leaks(ctx, o.pulls))
	}
	return err
}

// spread is a set of measurements.
type spread []float64

func (s *spread) add(v float64) { *s = append(*s, v) }

func (s spread) String() string {
	sorted := slices.Sorted(slices.Values(s))
	return fmt.Sprintf("%s [%s … %s]", figure(sorted[len(sorted)/2]), figure(sorted[0]), figure(sorted[len(sorted)-1]))
}

// part returns what so many of a hundred are not above.
func (s spread) part(percent int) float64 {
	return slices.Sorted(slices.Values(s))[(len(s)-1)*percent/100]
}

// figure writes a number in four digits, or to the unit.
func figure(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
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
