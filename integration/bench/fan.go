package main

import (
	"context"
	"fmt"
	"time"

	"github.com/towline/towline/integration/lab"
)

// fan measures many readers of one pull: Towline's, those of a naive handler, and
// as many as the engine itself serves.
func (s *site) fan(ctx context.Context, o options) error {
	image, err := s.slow(ctx, 10, o.layers, 10*time.Second)
	if err != nil {
		return err
	}
	var t, n, d side
	var m footprint
	var overNaive, overDocker spread
	for i := range o.rounds {
		towline, _, err := s.viaTowline(ctx, image.begin, o.readers, 0, m.take)
		if err != nil {
			return fmt.Errorf("towline: %w", err)
		}
		naive, err := image.viaNaive(ctx, o.readers)
		if err != nil {
			return fmt.Errorf("naive: %w", err)
		}
		docker, err := image.viaDocker(ctx, o.readers)
		if err != nil {
			return fmt.Errorf("dockerd: %w", err)
		}
		m.add(towline, i)
		// What the pull itself costs the engine, it has cost it for Towline too.
		t.add(towline, 0)
		n.add(naive, 0)
		d.add(docker, towline.engine)
		overNaive.add(naive.perEvent(0) / towline.perEvent(0))
		overDocker.add(docker.perEvent(towline.engine) / towline.perEvent(0))
	}
	fmt.Printf("readers of one pull of %d layers, %d at a time, %d rounds; µs of the server's CPU\n", o.layers, min(o.layers, atATime), o.rounds)
	t.print("towline")
	n.print("naive")
	d.print("dockerd")
	fmt.Printf("      an event delivered by the naive handler takes %v times as much CPU as one by towline, by dockerd %v times\n", overNaive, overDocker)
	m.print()
	return image.engine.RemoveImage(ctx, image.ref)
}

// side is what was measured of one server.
type side struct {
	readers, perEvent, perSecond, events, joined, load, faults, p50, p99, most, states spread
}

func (s *side) add(w *window, less time.Duration) {
	s.readers.add(float64(w.attached.Readers))
	s.perEvent.add(w.perEvent(less))
	s.perSecond.add(w.perSecond(less))
	s.events.add(float64(w.Lines) / float64(w.attached.Readers))
	s.joined.add(float64(w.Lines) / float64(w.Chunks))
	s.load.add(w.server.Seconds() / w.Seconds)
	if w.Faults > 0 {
		s.faults.add(float64(w.Faults))
	}
	if w.Delays > 0 {
		s.p50.add(w.P50)
		s.p99.add(w.P99)
		s.most.add(w.Max)
		s.states.add(w.StateP99)
	}
}

func (s *side) print(name string) {
	fmt.Printf("      %s, %v readers: %v an event delivered, %v a reader and second; each got %v events, %v a write; %v processors busy\n",
		name, s.readers, s.perEvent, s.perSecond, s.events, s.joined, s.load)
	if len(s.faults) > 0 {
		fmt.Printf("      %s: in %d rounds %v readers got an error, or not all\n", name, len(s.faults), s.faults)
	}
	if len(s.p50) > 0 {
		fmt.Printf("      %s: from an event to its reader p50 %v, p99 %v, most %v ms; of states p99 %v ms\n", name, s.p50, s.p99, s.most, s.states)
	}
}

// footprint is what readers hold, in KiB for each.
type footprint struct {
	idle, busy, stack, heap spread
	taken                   [][]float64 // of the present round: before there are readers, and with idle ones
}

// take notes what the runtime says of itself.
func (m *footprint) take(ctx context.Context, d *lab.Towline) error {
	values, err := metrics(ctx, d, "go_memstats_stack_inuse_bytes", "go_memstats_heap_inuse_bytes")
	m.taken = append(m.taken, values)
	return err
}

func (m *footprint) add(w *window, round int) {
	each := func(now, before float64) float64 { return (now - before) / float64(w.attached.Readers) / 1024 }
	m.idle.add(each(float64(w.idle), float64(w.empty)))
	m.busy.add(each(float64(w.busy), float64(w.empty)))
	before, idle := m.taken[2*round], m.taken[2*round+1]
	m.stack.add(each(idle[0], before[0]))
	m.heap.add(each(idle[1], before[1]))
}

func (m *footprint) print() {
	fmt.Printf("      towline holds, KiB resident for a reader: idle %v, of which stacks %v, heap %v; busy, at most, %v\n", m.idle, m.stack, m.heap, m.busy)
}
