// Pull measures how long it takes to bring images to an engine that has nothing of
// them: docker pull, docker compose pull, and Towline without and with its
// accelerator, from a real registry behind a link that is as slow as one to somewhere
// far away. They take turns in each round. A figure is the median of the rounds, with
// the least and the most, and a ratio is to docker pull in the same round.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 5, "rounds of each scenario")
	only := flag.String("scenario", "", "which scenarios, separated by commas: "+strings.Join(names(), ", ")+". All, if it is empty")
	with := flag.String("with", "", "only these of a scenario's pullers, separated by commas, besides docker pull")
	alone := flag.String("only", "", "only this one of a scenario's pullers, without docker pull")
	flag.StringVar(&o.bin, "towline", "", "the towline to measure. It is built from this source tree, if it is empty")
	flag.StringVar(&o.config, "config", "", "more lines of its configuration")
	flag.StringVar(&o.events, "events", "", "a directory for what Towline tells of its jobs, for the requests that the registry gets, and for a timeline of the link and the processors, a file for each round")
	flag.Parse()
	o.scenarios, o.with, o.alone = list(*only), list(*with), *alone
	debug.SetGCPercent(400) // the registry and the link are to leave the processors to those that are measured
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	runs            int
	scenarios, with []string
	alone           string
	bin, config     string
	events          string
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func run(ctx context.Context, o options) (err error) {
	for _, name := range o.scenarios {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("there is no scenario %s; there are %s", name, strings.Join(names(), ", "))
		}
	}
	s := site{options: o}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	fmt.Printf("%d processors, %s, %s; medians [least … most] of %d rounds\n", runtime.NumCPU(), runtime.Version(), s.version, o.runs)
	for _, c := range scenarios {
		if len(o.scenarios) == 0 || slices.Contains(o.scenarios, c.name) {
			if err := s.measure(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}
