package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/towline/towline/integration/lab"
)

// timelineEvery is how often a timeline has a line.
const timelineEvery = 100 * time.Millisecond

// keepTimeline writes a file that says what the link and the processors do, until end is
// called. Processor time of the engine is with the processes that it starts to unpack
// layers, in the line of their end; that of all is of the whole machine.
func (s *site) keepTimeline(ctx context.Context, r round) (end func(), err error) {
	f, err := os.CreateTemp(s.events, time.Now().Format("150405-*.timeline"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(f, "s\tMB/s\tCPU: engine\ttowline\tbench\tall")
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.Close()
		began, before := time.Now(), s.usage(r)
		ticker := time.NewTicker(timelineEvery)
		defer ticker.Stop()
		for last := began; ; {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				use := s.usage(r)
				took := now.Sub(last).Seconds()
				fmt.Fprintf(f, "%.2f\t%.0f", now.Sub(began).Seconds(), (use[0]-before[0])/took)
				for i := 1; i < len(use); i++ {
					fmt.Fprintf(f, "\t%.1f", (use[i]-before[i])/took)
				}
				fmt.Fprintln(f)
				before, last = use, now
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

// usage returns megabytes that have passed the link, and seconds of processor time: of
// the engine, of Towline, of this process (the registry and the link), and of all.
func (s *site) usage(r round) (use [5]float64) {
	if r.link != nil {
		use[0] = float64(r.link.Passed()) / mb
	}
	cpu := func(pid int) float64 { // 0 where there is none
		t, _ := lab.CPU(pid)
		return t.Seconds()
	}
	engine, _ := lab.TreeCPU(r.engine.Pid())
	use[1], use[3] = engine.Seconds(), cpu(os.Getpid())
	if r.towline != nil {
		use[2] = cpu(r.towline.Pid)
	}
	all, _ := lab.Busy()
	use[4] = all.Seconds()
	return use
}
