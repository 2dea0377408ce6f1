package pullstream_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/stream/pullstream"
)

func TestProgressAbsurdCounts(t *testing.T) {
	f := &foreman{t: t, now: began}
	counts := []int64{math.MinInt64, -1, 0, 1, 1 << 50, 1<<50 + 1, 1 << 62, math.MaxInt64 - 1, math.MaxInt64}
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 3000 {
		status := []string{"Downloading", "Extracting", "Download complete", "Pulling fs layer"}[random.IntN(4)]
		f.fold(work(fmt.Sprint("layer", i%1500), status, counts[random.IntN(len(counts))], counts[random.IntN(len(counts))]))
		if p := f.totals; p.Downloaded < 0 || p.Extracted < 0 || p.Total < 0 || p.Rate < 0 {
			t.Fatalf("after %d lines: %+v", i+1, p)
		}
	}
	f.finish()
	if f.totals.Layers != 1000 || f.totals.Downloaded < 0 || f.totals.Total < 0 {
		t.Errorf("in the end: %+v", f.totals)
	}
}

func TestProgressLayersBounded(t *testing.T) {
	var p pullstream.Progress
	for i := range 5000 {
		change := p.Fold(work(fmt.Sprint("layer", i), "Pulling fs layer"), began)
		if kept := i < 1000; change.Advanced != kept || (change.Layer != nil) != kept {
			t.Fatalf("layer %d gave %+v", i, change)
		}
	}
	// Those that are kept go on.
	if change := p.Fold(work("layer3", "Downloading", 5, 9), began); !change.Advanced || change.Layer == nil {
		t.Errorf("a layer among the first gave %+v", change)
	}
	var q pullstream.Progress
	if change := q.Fold(work(strings.Repeat("x", 129), "Pulling fs layer"), began); change != (pullstream.Change{}) {
		t.Errorf("a layer with a long name gave %+v", change)
	}
	if change := q.Fold(work(strings.Repeat("x", 71), "Pulling fs layer"), began); !change.Advanced {
		t.Errorf("a layer named by its whole digest gave %+v", change)
	}
}

func TestALongNoticeIsClipped(t *testing.T) {
	var p pullstream.Progress
	change := p.Fold(pullstream.Message{Status: strings.Repeat("é", 100_000)}, began)
	if n := len(change.Notice); n > 2100 || n < 1000 || !strings.HasSuffix(change.Notice, "é…") {
		t.Errorf("the notice has %d bytes", n)
	}
}

// The clock may be set forth and back; that shows in no rate below 0 or above
// what could have come, and is forgotten soon after.
func TestRateClockJumps(t *testing.T) {
	const size, step = 1 << 40, 100_000 // 1 MB/s in lines of 100 ms
	for _, jumps := range [][]time.Duration{
		{time.Hour}, {-time.Hour}, {time.Hour, -time.Hour}, {-time.Hour, time.Hour}, {-time.Hour, -time.Hour, time.Hour, time.Hour},
		{400 * 24 * time.Hour, -400 * 24 * time.Hour}, {-time.Second, time.Second, -200 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(jumps), func(t *testing.T) {
			var p pullstream.Progress
			now, bytes := began, int64(0)
			run := func(d time.Duration) (last pullstream.Totals) {
				for range d / (100 * time.Millisecond) {
					now, bytes = now.Add(100*time.Millisecond), bytes+step
					p.Fold(work("a", "Downloading", bytes, size), now)
					// The reader's clock may not have jumped yet, or have jumped already.
					for _, at := range []time.Time{now, now.Add(time.Hour), now.Add(-time.Hour)} {
						last = p.Totals(at)
						if last.Rate < 0 || last.Rate > 2_000_000 || last.ETASeconds != nil && *last.ETASeconds < 0 {
							t.Fatalf("at %v: %+v", at, last)
						}
					}
					last = p.Totals(now)
				}
				return last
			}
			run(3 * time.Second)
			for _, jump := range jumps {
				now = now.Add(jump)
				run(time.Second)
			}
			if got := run(10 * time.Second); got.Rate < 900_000 || got.Rate > 1_100_000 || got.ETASeconds == nil {
				t.Errorf("ten steady seconds after the jumps: %+v", got)
			}
		})
	}
}

// Both ways of saying what is extracted count, in whatever order layers are named.
func TestProgressExtractingWithoutDownload(t *testing.T) {
	for _, c := range []struct {
		name string
		said []pullstream.Message
		want bool
	}{
		{"nothing", nil, false},
		{"a download", []pullstream.Message{work("a", "Downloading", 1, 9)}, false},
		{"an extraction", []pullstream.Message{work("a", "Extracting", 1, 9)}, true},
		{"an extraction in seconds", []pullstream.Message{seconds("a", 1)}, true},
		{"an extraction, then a download", []pullstream.Message{work("a", "Extracting", 1, 9), work("b", "Downloading", 1, 9)}, true},
		{"a download, then an extraction", []pullstream.Message{work("b", "Downloading", 1, 9), work("a", "Extracting", 1, 9)}, true},
		{"all downloaded", []pullstream.Message{work("a", "Download complete"), work("b", "Download complete")}, true},
		{"some downloaded", []pullstream.Message{work("a", "Download complete"), work("b", "Waiting")}, false},
		{"all done", []pullstream.Message{work("a", "Pull complete"), work("b", "Already exists")}, false},
		{"one done, one downloaded", []pullstream.Message{work("a", "Pull complete"), work("b", "Download complete")}, true},
		{"verified", []pullstream.Message{work("a", "Verifying Checksum")}, false},
	} {
		var p pullstream.Progress
		for _, m := range c.said {
			p.Fold(m, began)
		}
		if got := p.Extracting(); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestAdvanceOfRestartedDownload(t *testing.T) {
	f := &foreman{t: t, now: began}
	for i, step := range []struct {
		current  int64
		advanced bool
		shown    bool
	}{
		{900, true, true}, {0, false, false}, {0, false, false}, {100, true, false}, {100, false, false}, {50, false, false},
		{60, true, false}, {900, true, false}, {900, false, false}, {901, true, true},
	} {
		change := f.fold(work("a", "Downloading", step.current, 1000))
		if change.Advanced != step.advanced || (change.Layer != nil) != step.shown {
			t.Errorf("step %d, %d: %+v", i, step.current, change)
		}
	}
}
