package main

import "time"

// step is how exactly delays are told apart.
const step = 50 * time.Microsecond

// delays counts how long events took, up to 20 s.
type delays struct {
	counts [20 * time.Second / step]int64
	n      int64
	most   time.Duration
}

func (d *delays) add(v time.Duration) {
	d.n++
	d.most = max(d.most, v)
	d.counts[min(max(int(v/step), 0), len(d.counts)-1)]++
}

// quantile returns the delay that a share of them does not exceed, in
// milliseconds.
func (d *delays) quantile(share float64) float64 {
	left := int64(share * float64(d.n))
	for i, n := range d.counts {
		if left -= n; left < 0 {
			return milliseconds(time.Duration(i+1) * step)
		}
	}
	return milliseconds(d.most)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
