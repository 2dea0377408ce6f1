package main

import (
	"context"
	"fmt"
	"time"
)

// stopped measures what readers get while as many others do not read, against
// the same without those. Then these are cut off, and go on where they were.
func (s *site) stopped(ctx context.Context, o options) error {
	image, err := s.slow(ctx, 12, o.layers, 10*time.Second)
	if err != nil {
		return err
	}
	half := max(o.readers/10, 1)
	var p50, p99, pull [2]spread
	var p50Ratio, p99Ratio, pullRatio, cut, fit, after spread
	for i := range o.rounds {
		var w [2]*window // without, and with
		for k := range w {
			with := (i + k) % 2
			if w[with], _, err = s.viaTowline(ctx, image.begin, half, with*half, nil); err != nil {
				return err
			}
		}
		for k := range w {
			p50[k].add(w[k].P50)
			p99[k].add(w[k].P99)
			pull[k].add(w[k].pull.Seconds())
		}
		p50Ratio.add(w[1].P50 / w[0].P50)
		p99Ratio.add(w[1].P99 / w[0].P99)
		pullRatio.add(w[1].pull.Seconds() / w[0].pull.Seconds())
		cut.add(float64(w[1].Cut))
		fit.add(float64(w[1].Fit))
		after.add(w[1].CutAfter)
	}
	fmt.Printf("%d readers, and %d more that stop reading, %d pairs\n", half, half, o.rounds)
	fmt.Printf("      from an event to its reader, ms: p50 %v without, %v with, ratio %v; p99 %v without, %v with, ratio %v\n", p50[0], p50[1], p50Ratio, p99[0], p99[1], p99Ratio)
	fmt.Printf("      the pull, s: %v without, %v with, ratio %v\n", pull[0], pull[1], pullRatio)
	fmt.Printf("      of those that stopped %v were cut off, the last after %v s, and went on to the end where they were; %v had room for all\n", cut, after, fit)
	return image.engine.RemoveImage(ctx, image.ref)
}
