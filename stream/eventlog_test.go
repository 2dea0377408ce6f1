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

// hall is a hub and what was told in it.
type hall struct {
	*stream.EventLog
	seq *stream.Sequence
}

func newHall(limit int) *hall {
	seq := new(stream.Sequence)
	return &hall{stream.NewEventLog(seq, limit), seq}
}

func about(job string) *stream.About {
	return &stream.About{Job: job, Kind: "pull", Image: "of-" + job}
}

// all is the filter that chooses all jobs.
var all stream.Filter

// topic returns a topic of a job that is announced.
func (h *hall) topic(job string) *stream.Topic {
	t := h.Topic()
	t.Announce(about(job))
	return t
}

// heard reads a listener until there is nothing new. It must run in a synctest
// bubble.
func heard(t *testing.T, l *stream.LogSubscription) []string {
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

func checkHeard(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestAListenerHearsAllJobsInTheOrderOfTheNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1 << 20)
		a, b := h.topic("a"), h.topic("b")
		a.Publish(encoder("state", "a1"))
		l := h.Subscribe(all, missed)
		if at := l.At(); at != 1 {
			t.Errorf("it begins at %d", at)
		}
		checkHeard(t, "the snapshot", heard(t, l), "a1")
		held := h.Reserve() // for a's end
		b.Publish(encoder("state", "b1"))
		b.Publish(encoder("notice", "b2"))
		checkHeard(t, "while a number is held", heard(t, l))
		a.End(encoder("result", "a2")(held))
		checkHeard(t, "then", heard(t, l), "a2", "b1", "b2")
		for since, want := range [][]string{{"a1", "a2", "b1", "b2"}, {"a2", "b1", "b2"}, {"b1", "b2"}, {"b2"}, {}} {
			l, err := h.Resume(all, missed, uint64(since))
			if err != nil {
				t.Fatal(err)
			}
			checkHeard(t, fmt.Sprint("after ", since), heard(t, l), want...)
		}
		if _, err := h.Resume(all, missed, 5); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("a number that was never given: %v", err)
		}
		h.End()
		checkHeard(t, "at the end", heard(t, l), "EOF")
	})
}

func TestAJobIsHeardFromWhenItIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1 << 20)
		l := h.Subscribe(all, missed)
		accepted, refused, other := h.Topic(), h.Topic(), h.topic("other")
		refused.Publish(encoder("state", "refused"))
		accepted.Publish(encoder("state", "accepted"))
		other.Publish(encoder("state", "other"))
		checkHeard(t, "before", heard(t, l))
		accepted.Announce(about("accepted"))
		checkHeard(t, "while one below is undecided", heard(t, l))
		refused.Withdraw()
		checkHeard(t, "after", heard(t, l), "accepted", "other")
	})
}

func TestAListenerChoosesJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1 << 20)
		l := h.Subscribe(stream.Filter{Image: "of-b"}, missed)
		boards := map[string]*stream.Latest{}
		for _, job := range []string{"a", "b"} {
			boards[job] = stream.NewLatest(h.seq)
			h.Show(boards[job], about(job))
			topic := h.topic(job)
			topic.Publish(encoder("state", job+" active"))
			post(boards[job], "layer", job)
		}
		checkHeard(t, "one of two", heard(t, l), "b active", "layer b")
	})
}

func TestEventLogNamesOneJobOfLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1 << 20)
		board := stream.NewLatest(h.seq)
		post(board, "x", "1")
		h.Show(board, about("first"))
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
			checkHeard(t, what, got, want...)
		}
		next("the snapshot", "first x 1")
		h.Show(board, about("second"))
		<-time.After(stream.LayerInterval)
		post(board, "x", "2")
		next("in another's name", "second x 2")
		post(board, "x", "3")
		h.Hide(board)
		checkHeard(t, "the last of hidden layers", heard(t, l), "x 3")
		<-time.After(time.Minute)
		h.Show(stream.NewLatest(h.seq), about("another"))
		checkHeard(t, "a reader that comes later", heard(t, h.Subscribe(all, missed)))
	})
}

// A result comes with the layers before it, though it is too early for those.
func TestNoLayerIsHeardAfterItsResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1 << 20)
		board, topic := stream.NewLatest(h.seq), h.topic("a")
		h.Show(board, about("a"))
		l := h.Subscribe(all, missed)
		l.Every = time.Minute
		post(board, "x", "1")
		checkHeard(t, "the first", heard(t, l), "x 1")
		post(board, "x", "2")
		h.Hide(board)
		topic.End(encoder("result", "end")(h.Reserve()))
		checkHeard(t, "the end", heard(t, l), "x 2", "end")
	})
}

func TestAListenerThatIsTooSlowIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(4 << 10)
		topic := h.topic("a")
		slow := h.Subscribe(all, missed)
		quick := h.Subscribe(all, missed)
		for i := range 100 {
			topic.Publish(encoder("notice", fmt.Sprint(i)))
			checkHeard(t, "the quick one", heard(t, quick), fmt.Sprint(i))
		}
		checkHeard(t, "the slow one", heard(t, slow), stream.ErrBehind.Error())
		if _, err := h.Resume(all, missed, slow.At()); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("it resumes: %v", err)
		}
	})
}

// Output may drown in itself, but not the states of other jobs.
func TestOutputDropsOutputOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(4 << 10)
		topic := h.topic("a")
		l := h.Subscribe(all, missed)
		topic.Publish(encoder("state", "running"))
		for i := range 100 {
			topic.Publish(encoder("log", fmt.Sprint(i)))
		}
		topic.Publish(encoder("state", "removing"))
		got := heard(t, l)
		if len(got) > 60 || len(got) < 10 || !slices.Contains(got, "running") || !slices.Contains(got, "99") || got[len(got)-1] != "removing" {
			t.Errorf("got %q", got)
		}
		if n := len(got) - len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s == "missed" })); n != 1 {
			t.Errorf("what was missed is told %d times: %q", n, got)
		}
	})
}

func TestWhatWasToldBeforeAStartIsRecalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seq := new(stream.Sequence)
		seq.Start(50)
		h := &hall{stream.NewEventLog(seq, 1<<20), seq}
		if _, err := h.Resume(all, missed, 49); !errors.Is(err, stream.ErrBehind) {
			t.Errorf("a place of before the start: %v", err)
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
		checkHeard(t, "a place of before", heard(t, l), "30", "40", "new")
	})
}

func TestAnIdleListenerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1 << 20)
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

// Whoever listens, and comes back where it was, hears each number once and in
// order, whatever order they are told in.
func TestConcurrentListenersHearEveryNumberOnce(t *testing.T) {
	h := newHall(64 << 20)
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
			topic, board := h.topic(fmt.Sprint(i)), stream.NewLatest(h.seq)
			h.Show(board, about(fmt.Sprint(i)))
			for j := range frames - 1 {
				topic.Publish(encoder("notice", fmt.Sprint(j)))
				post(board, fmt.Sprint(j%3), fmt.Sprint(j))
			}
			n := h.Reserve()
			h.Hide(board)
			topic.End(encoder("result", "end")(n))
		})
	}
	publishing.Wait()
	readers.Wait()
	cancel()
}
