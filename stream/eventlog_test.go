package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream"
)

// testLog is an event log and its sequence.
type testLog struct {
	*stream.EventLog
	seq *stream.Sequence
}

func newTestLog(limit int) *testLog {
	seq := new(stream.Sequence)
	return &testLog{stream.NewEventLog(seq, limit), seq}
}

func about(job string) *stream.About {
	return &stream.About{Job: job, Kind: "pull", Image: "of-" + job}
}

// all is the filter that chooses all jobs.
var all stream.Filter

// topic returns a topic of a job that is announced.
func (h *testLog) topic(job string) *stream.Topic {
	t := h.Topic()
	t.Announce(about(job))
	return t
}

// readAll reads a subscription until there is nothing new. It must run in a synctest
// bubble.
func readAll(t *testing.T, l *stream.LogSubscription) []string {
	t.Helper()
	var all []string
	for {
		b, err := l.Next(t.Context(), time.Minute)
		if err == io.EOF {
			return append(all, "EOF")
		}
		if err != nil {
			return append(all, err.Error())
		}
		if b == nil {
			return all
		}
		for _, f := range b.Frames() {
			var e event
			if err := f.Decode(&e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Word)
		}
	}
}

func checkRead(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestEventLogHasAllJobsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(1 << 20)
		a, b := h.topic("a"), h.topic("b")
		a.Publish(encoder("state", "a1"))
		l := h.Subscribe(all, missed)
		if at := l.At(); at != 1 {
			t.Errorf("it begins at %d", at)
		}
		checkRead(t, "the snapshot", readAll(t, l), "a1")
		held := h.Reserve() // for a's end
		b.Publish(encoder("state", "b1"))
		b.Publish(encoder("notice", "b2"))
		checkRead(t, "while a number is held", readAll(t, l))
		a.End(encoder("result", "a2")(held))
		checkRead(t, "then", readAll(t, l), "a2", "b1", "b2")
		for since, want := range [][]string{{"a1", "a2", "b1", "b2"}, {"a2", "b1", "b2"}, {"b1", "b2"}, {"b2"}, {}} {
			l, err := h.Resume(all, missed, uint64(since))
			if err != nil {
				t.Fatal(err)
			}
			checkRead(t, fmt.Sprint("after ", since), readAll(t, l), want...)
		}
		if _, err := h.Resume(all, missed, 5); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("a number that was never given: %v", err)
		}
		h.End()
		checkRead(t, "at the end", readAll(t, l), "EOF")
	})
}

func TestEventLogHasAnnouncedTopicsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(1 << 20)
		l := h.Subscribe(all, missed)
		accepted, refused, other := h.Topic(), h.Topic(), h.topic("other")
		refused.Publish(encoder("state", "refused"))
		accepted.Publish(encoder("state", "accepted"))
		other.Publish(encoder("state", "other"))
		checkRead(t, "before", readAll(t, l))
		accepted.Announce(about("accepted"))
		checkRead(t, "while one below is undecided", readAll(t, l))
		refused.Withdraw()
		checkRead(t, "after", readAll(t, l), "accepted", "other")
	})
}

func TestEventLogFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(1 << 20)
		l := h.Subscribe(stream.Filter{Image: "of-b"}, missed)
		layersOf := map[string]*stream.Latest{}
		for _, job := range []string{"a", "b"} {
			layersOf[job] = stream.NewLatest(h.seq)
			h.Show(layersOf[job], about(job))
			topic := h.topic(job)
			topic.Publish(encoder("state", job+" active"))
			post(layersOf[job], "layer", job)
		}
		checkRead(t, "one of two", readAll(t, l), "b active", "layer b")
	})
}

func TestEventLogLayersNameOneJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(1 << 20)
		latest := stream.NewLatest(h.seq)
		post(latest, "x", "1")
		h.Show(latest, about("first"))
		l := h.Subscribe(all, missed)
		next := func(what string, want ...string) {
			t.Helper()
			b, err := l.Next(t.Context(), time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range b.Frames() {
				var e event
				f.Decode(&e)
				got = append(got, e.Job+" "+e.Word)
			}
			checkRead(t, what, got, want...)
		}
		next("the snapshot", "first x 1")
		h.Show(latest, about("second"))
		<-time.After(stream.LayerInterval)
		post(latest, "x", "2")
		next("in another's name", "second x 2")
		post(latest, "x", "3")
		h.Hide(latest)
		checkRead(t, "the last of hidden layers", readAll(t, l), "x 3")
		<-time.After(time.Minute)
		h.Show(stream.NewLatest(h.seq), about("another"))
		checkRead(t, "a reader that comes later", readAll(t, h.Subscribe(all, missed)))
	})
}

// A result comes with the layers before it, though it is too early for those.
func TestEventLogResultComesAfterItsLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(1 << 20)
		latest, topic := stream.NewLatest(h.seq), h.topic("a")
		h.Show(latest, about("a"))
		l := h.Subscribe(all, missed)
		l.Every = time.Minute
		post(latest, "x", "1")
		checkRead(t, "the first", readAll(t, l), "x 1")
		post(latest, "x", "2")
		h.Hide(latest)
		topic.End(encoder("result", "end")(h.Reserve()))
		checkRead(t, "the end", readAll(t, l), "x 2", "end")
		checkRead(t, "a reader that comes later", readAll(t, h.Subscribe(all, missed)))

		// A transfer ends after its jobs.
		latest, topic = stream.NewLatest(h.seq), h.topic("b")
		h.Show(latest, about("b"))
		post(latest, "y", "3")
		topic.End(encoder("result", "end")(h.Reserve()))
		h.Hide(latest)
		checkRead(t, "one that comes after that", readAll(t, h.Subscribe(all, missed)))
	})
}

func TestEventLogSlowReaderIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(4 << 10)
		topic := h.topic("a")
		slow := h.Subscribe(all, missed)
		quick := h.Subscribe(all, missed)
		for i := range 100 {
			topic.Publish(encoder("notice", fmt.Sprint(i)))
			checkRead(t, "the quick one", readAll(t, quick), fmt.Sprint(i))
		}
		checkRead(t, "the slow one", readAll(t, slow), stream.ErrBehind.Error())
		if _, err := h.Resume(all, missed, slow.At()); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("it resumes: %v", err)
		}
	})
}

// Output may drown in itself, but not the states of other jobs.
func TestEventLogOutputDropsOutputOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(4 << 10)
		topic := h.topic("a")
		l := h.Subscribe(all, missed)
		topic.Publish(encoder("state", "running"))
		for i := range 100 {
			topic.Publish(encoder("log", fmt.Sprint(i)))
		}
		topic.Publish(encoder("state", "removing"))
		got := readAll(t, l)
		if len(got) > 60 || len(got) < 10 || !slices.Contains(got, "running") || !slices.Contains(got, "99") || got[len(got)-1] != "removing" {
			t.Errorf("got %q", got)
		}
		if n := len(got) - len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s == "missed" })); n != 1 {
			t.Errorf("what was missed is there %d times: %q", n, got)
		}
	})
}

func TestEventLogRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seq := new(stream.Sequence)
		seq.Start(50)
		h := &testLog{stream.NewEventLog(seq, 1<<20), seq}
		if _, err := h.Resume(all, missed, 49); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("a place before the start: %v", err)
		}
		var frames []stream.Frame
		var of []*stream.About
		for _, n := range []uint64{30, 10, 20, 40} {
			frames, of = append(frames, encoder("notice", fmt.Sprint(n))(n)), append(of, about("a"))
		}
		h.Restore(15, frames, of)
		if _, err := h.Resume(all, missed, 14); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("a place below the floor: %v", err)
		}
		l, err := h.Resume(all, missed, 20)
		if err != nil {
			t.Fatal(err)
		}
		h.topic("b").Publish(encoder("state", "new"))
		checkRead(t, "a place before the start", readAll(t, l), "30", "40", "new")
	})
}

func TestEventLogIdleReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestLog(1 << 20)
		l := h.Subscribe(all, missed)
		start := time.Now()
		if b, err := l.Next(t.Context(), 15*time.Second); b != nil || err != nil || time.Since(start) != 15*time.Second {
			t.Errorf("after %s: %v, %v", time.Since(start), b, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Next(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// Each reader gets each number once and in order, whatever order they are
// published in, also when it comes back with the last number it has read.
func TestEventLogConcurrentReaders(t *testing.T) {
	h := newTestLog(64 << 20)
	const jobs, frames = 20, 100
	var readers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 6 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			l, err := h.Resume(all, missed, 0)
			if err != nil {
				t.Error(err)
				return
			}
			last, count := uint64(0), 0
			for count < jobs*frames {
				b, err := l.Next(ctx, time.Minute)
				if err != nil {
					t.Errorf("after %d: %v", count, err)
					return
				}
				for _, f := range b.Frames() {
					if f.Seq == 0 {
						continue
					}
					if f.Seq <= last {
						t.Errorf("%d comes after %d", f.Seq, last)
					}
					last = f.Seq
					count++
				}
				if rng.IntN(10) == 0 {
					if l, err = h.Resume(all, missed, l.At()); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	var publishing sync.WaitGroup
	for i := range jobs {
		publishing.Go(func() {
			topic, latest := h.topic(fmt.Sprint(i)), stream.NewLatest(h.seq)
			h.Show(latest, about(fmt.Sprint(i)))
			for j := range frames - 1 {
				topic.Publish(encoder("notice", fmt.Sprint(j)))
				post(latest, fmt.Sprint(j%3), fmt.Sprint(j))
			}
			n := h.Reserve()
			h.Hide(latest)
			topic.End(encoder("result", "end")(n))
		})
	}
	publishing.Wait()
	readers.Wait()
	cancel()
}
