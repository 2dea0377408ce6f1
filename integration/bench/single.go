package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// lines is how many a program prints, one every apart.
const (
	lines = 100
	apart = 200 * time.Millisecond
)

// single measures events that come one at a time, one a write, against a loop that
// writes the same bytes to as many connections at the same times: those of a pull of
// one layer, and those of a run whose program prints.
func (s *site) single(ctx context.Context, o options) error {
	// One layer: a hundred events, as far apart.
	image, err := s.slow(ctx, 11, 1, lines*apart)
	if err != nil {
		return err
	}
	program, err := s.actor(ctx)
	if err != nil {
		return err
	}
	for _, source := range []struct {
		name  string
		begin begin
	}{{"a pull of one layer", image.begin}, {"a run", printing(program, o.readers)}} {
		var t, r side
		var ratio spread
		for range o.rounds {
			towline, recorded, err := s.viaTowline(ctx, source.begin, o.readers, 0, nil)
			if err != nil {
				return fmt.Errorf("%s: towline: %w", source.name, err)
			}
			loop, err := s.viaReplay(ctx, o.readers, recorded)
			if err != nil {
				return fmt.Errorf("%s: loop: %w", source.name, err)
			}
			t.add(towline, 0)
			r.add(loop, 0)
			ratio.add(towline.perEvent(0) / loop.perEvent(0))
		}
		fmt.Printf("events one at a time, of %s, %d rounds; µs of the server's CPU\n", source.name, o.rounds)
		t.print("towline")
		r.print("a bare loop of write()")
		fmt.Printf("      an event takes towline %v times as much CPU as the loop\n", ratio)
	}
	return errors.Join(image.engine.RemoveImage(ctx, image.ref), s.engine.RemoveImage(ctx, program))
}

// printing has a daemon run a program that prints one line after the other, once
// so many readers have had the time to come.
func printing(image string, readers int) begin {
	return func(ctx context.Context, d *lab.Towline) (string, func(), error) {
		cmd := []string{fmt.Sprint("sleep=", 3*time.Second+time.Duration(readers)*time.Millisecond)}
		for i := range lines {
			cmd = append(cmd, fmt.Sprintf("out=this is line %d of what the program prints\n", i), fmt.Sprint("sleep=", apart))
		}
		c, err := client.New(d.Host, "")
		if err != nil {
			return "", nil, err
		}
		defer c.Close()
		job, err := c.Run(ctx, client.RunRequest{Image: image, Cmd: cmd, Network: "none"})
		if err != nil {
			return "", nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return job.ID, func() {}, lab.Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
			if job, err = c.Job(ctx, job.ID); err != nil || job.Phase == puller.PhaseRunning {
				return err
			}
			return fmt.Errorf("%s: %s %s", job.ID, job.State, job.Phase)
		})
	}
}
