package main

import (
	"context"
	"fmt"
	"time"
)

// single measures events that come one at a time, one a write, against a loop that
// writes the same bytes to as many connections at the same times.
func (s *site) single(ctx context.Context, o options) error {
	// One layer: a hundred events, a fifth of a second apart.
	image, err := s.slow(ctx, 11, 1, 20*time.Second)
	if err != nil {
		return err
	}
	var t, r side
	var ratio spread
	for range o.rounds {
		towline, recorded, err := image.viaTowline(ctx, o.readers, 0, nil)
		if err != nil {
			return fmt.Errorf("towline: %w", err)
		}
		loop, err := image.viaReplay(ctx, o.readers, recorded)
		if err != nil {
			return fmt.Errorf("loop: %w", err)
		}
		t.add(towline, 0)
		r.add(loop, 0)
		ratio.add(towline.perEvent(0) / loop.perEvent(0))
	}
	fmt.Printf("events one at a time, %d rounds; µs of the server's CPU\n", o.rounds)
	t.print("towline")
	r.print("a bare loop of write()")
	fmt.Printf("      an event takes towline %v times as much CPU as the loop\n", ratio)
	return image.engine.RemoveImage(ctx, image.ref)
}
