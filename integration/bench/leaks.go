package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// state is what two daemons hold.
type state struct {
	goroutines int // of towline
	files      int // of towline: its connections, to the engine among them
	engine     int // goroutines of the engine, some for each connection
}

// leaks compares what is held before and after many pulls, each of which has
// the engine ask the registry.
func (s *site) leaks(ctx context.Context, pulls int) error {
	ref, err := s.push(ctx, 3, 2, 1<<10)
	if err != nil {
		return err
	}
	pull := func(ctx context.Context) error {
		c, err := client.New(s.daemon.Host, "")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Pull(ctx, client.PullRequest{Image: ref, Policy: puller.PolicyAlways})
		return err
	}
	if err := pull(ctx); err != nil {
		return err
	}
	before, err := s.state(ctx)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for range pulls {
		group.Go(func() error { return pull(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// Connections that are idle stay open for a while, which is what they are
	// for.
	settling, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	after := before
	began := time.Now()
	settled := lab.Poll(settling, time.Second, func(ctx context.Context) error {
		if after, err = s.state(ctx); err != nil {
			return err
		}
		if after.goroutines > before.goroutines || after.files > before.files || after.engine > before.engine {
			return errors.New("more is held than at the start")
		}
		return nil
	})
	fmt.Printf("after %d pulls, 16 at a time: goroutines of towline %d → %d, its open files %d → %d, goroutines of the engine %d → %d, %.0f s after the last pull\n",
		pulls, before.goroutines, after.goroutines, before.files, after.files, before.engine, after.engine, time.Since(began).Seconds())
	return errors.Join(settled, s.engine.RemoveImage(ctx, ref))
}

func (s *site) state(ctx context.Context) (state, error) {
	told, err := metrics(ctx, s.daemon, "go_goroutines")
	if err != nil {
		return state{}, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.daemon.Pid))
	if err != nil {
		return state{}, err
	}
	engine, err := s.engine.Goroutines(ctx)
	return state{int(told[0]), len(files), engine}, err
}
