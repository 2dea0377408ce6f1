package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/fetch"
)

func busyError(after time.Duration) error {
	return &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: after, Err: fmt.Errorf("429: %w", puller.ErrBusy)}
}

func unavailable() error { return puller.Errorf(puller.ErrRegistryUnavailable, "it does not answer") }

func TestCut(t *testing.T) {
	bubble(t, "every_third_piece", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6}
		l.answer = func(r *request) (how, error) {
			if r.n%3 == 2 && r.to-r.from > 100*kib {
				return how{cut: 100 * kib}, nil
			}
			return how{}, nil
		}
		s := newSink("a", 20*mib)
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
		if l.sent() != s.size || f.Stats().Retries < 5 {
			t.Errorf("%d bytes were sent, %+v", l.sent(), f.Stats())
		}
	})
	for name, failure := range map[string]func(r *request) (how, error){
		"always_at_once":     func(*request) (how, error) { return how{cut: 1}, nil },
		"never_an_answer":    func(*request) (how, error) { return how{}, unavailable() },
		"a_few_bytes_always": func(*request) (how, error) { return how{cut: 10 * kib}, nil },
		"body_error":         func(*request) (how, error) { return how{}, io.ErrUnexpectedEOF },
	} {
		bubble(t, name, func(t *testing.T) {
			f := fetch.New(fetch.Options{Chunk: 16 * mib})
			l := &link{each: 10e6, answer: failure}
			took, err := fetchAll(t, f, l, newSink("a", 16*mib))
			if puller.KindOf(err) != puller.ErrRegistryUnavailable || took < 7*time.Second || took > 9*time.Second || len(l.asked()) != 6 {
				t.Errorf("%v after %s, %d requests", err, took, len(l.asked()))
			}
		})
	}
}

func TestStall(t *testing.T) {
	bubble(t, "one_piece_hangs", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib, PerRegistry: 4})
		l := &link{each: 1e6}
		var hung atomic.Bool
		l.answer = func(r *request) (how, error) {
			if r.from == 2*mib && !hung.Swap(true) {
				return how{hang: true, cut: 128 * kib}, nil
			}
			return how{}, nil
		}
		s := newSink("a", 100*mib)
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
		for _, r := range l.asked() { // what it had brought is not fetched again
			if r.n > 4 && r.from >= 2*mib && r.from < 2*mib+128*kib {
				t.Errorf("%+v", r)
			}
		}
		if l.sent() > s.size+256*kib || f.Stats().Retries == 0 {
			t.Errorf("%d bytes, %+v", l.sent(), f.Stats())
		}
	})
	bubble(t, "all_hang", func(t *testing.T) {
		f := fetch.New(fetch.Options{Stall: 3 * time.Second})
		l := &link{each: 1e6, answer: func(r *request) (how, error) { return how{hang: true}, nil }}
		took, err := fetchAll(t, f, l, newSink("a", 10*mib))
		if puller.KindOf(err) != puller.ErrStalled || took > time.Minute {
			t.Errorf("%v after %s", err, took)
		}
	})
	// As below, but with the limit that pulls have: one without progress for a minute ends.
	for _, rate := range []int64{0, 10 * mib} {
		bubble(t, fmt.Sprint("all_hang_by_default_", rate), func(t *testing.T) {
			f := fetch.New(fetch.Options{Rate: rate})
			l := &link{each: 1e6, answer: func(r *request) (how, error) { return how{hang: true}, nil }}
			took, err := fetchAll(t, f, l, newSink("a", 10*mib))
			if puller.KindOf(err) != puller.ErrStalled || took > 40*time.Second {
				t.Errorf("%v after %s", err, took)
			}
		})
	}
	bubble(t, "low_rate", func(t *testing.T) {
		f := fetch.New(fetch.Options{Rate: 1000})
		s := newSink("a", mib)
		if _, err := fetchAll(t, f, &link{each: 1e6}, s); err != nil {
			t.Error(err)
		}
		s.check(t)
	})
	// Each connection brings a byte now and then, for ever.
	bubble(t, "all_trickle", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 1}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		err := f.Fetch(ctx, fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{newSink("a", 10*mib), newSink("b", 10*mib)}})
		if took := time.Since(began); puller.KindOf(err) != puller.ErrStalled || took > 40*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
	// It has no connection for longer than a slow one may take.
	bubble(t, "waits_for_others", func(t *testing.T) {
		f := fetch.New(fetch.Options{Connections: 1, Chunk: 16 * mib})
		l := &link{each: 100e3} // a piece takes 160 s
		a, b := newSink("a", 32*mib), newSink("b", mib)
		var both sync.WaitGroup
		for _, s := range []*sink{a, b} {
			both.Go(func() {
				if err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}}); err != nil {
					t.Error(err)
				}
				s.check(t)
			})
			<-time.After(time.Second)
		}
		both.Wait()
	})
	bubble(t, "slow_is_no_stall", func(t *testing.T) {
		f := fetch.New(fetch.Options{Connections: 1, Stall: time.Second})
		s := newSink("a", mib)
		l := &link{each: 5000} // a read takes most of a second
		if _, err := fetchAll(t, f, l, s); err != nil || len(l.asked()) != 1 {
			t.Errorf("%v, %d requests", err, len(l.asked()))
		}
		s.check(t)
	})
	// A disk that is slow is no connection that brings nothing.
	bubble(t, "slow_sink", func(t *testing.T) {
		f := fetch.New(fetch.Options{Connections: 1, Stall: time.Second})
		s := newSink("a", mib)
		s.before = func(int64) { <-time.After(5 * time.Second) }
		l := &link{each: 10e6}
		if _, err := fetchAll(t, f, l, s); err != nil || len(l.asked()) != 1 {
			t.Errorf("%v, %d requests", err, len(l.asked()))
		}
		s.check(t)
	})
}

func TestRace(t *testing.T) {
	bubble(t, "slow_first_piece", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: 16 * mib})
		l := &link{each: 10e6}
		l.answer = func(r *request) (how, error) {
			if r.from == 0 {
				return how{rate: 100e3}, nil // 160 s for its piece
			}
			return how{}, nil
		}
		s := newSink("a", 200*mib)
		s.before = func(int64) { // nothing waits in memory for the first piece
			sent := l.sent()
			s.mu.Lock()
			defer s.mu.Unlock()
			if sent-s.written > 16*256*kib {
				t.Errorf("%d bytes were sent, and %d written", sent, s.written)
			}
		}
		took, err := fetchAll(t, f, l, s)
		s.check(t)
		if err != nil || took > 10*time.Second || f.Stats().Races == 0 {
			t.Errorf("%v after %s, %+v", err, took, f.Stats())
		}
		if l.sent() > s.size+2*mib { // only raced rests come twice
			t.Errorf("%d bytes were sent", l.sent())
		}
	})
	bubble(t, "patient", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 10e6}
		l.answer = func(r *request) (how, error) {
			if r.from == 0 {
				return how{rate: 4e6}, nil // slower than the others, and that is usual
			}
			return how{}, nil
		}
		s := newSink("a", 200*mib)
		err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, Patient: true})
		s.check(t)
		if err != nil || f.Stats().Races != 0 || l.sent() != s.size {
			t.Errorf("%v, %+v, %d bytes were sent", err, f.Stats(), l.sent())
		}
		var late atomic.Bool
		l.answer = func(r *request) (how, error) {
			if r.digest == "late" && r.from == 0 && late.CompareAndSwap(false, true) {
				return how{delay: 5 * time.Second}, nil // as on a busy host
			}
			return how{}, nil
		}
		sent := l.sent()
		s = newSink("late", 200*mib)
		err = f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, Patient: true})
		s.check(t)
		if err != nil || f.Stats().Races != 0 || l.sent()-sent != s.size {
			t.Errorf("%v, %+v, %d bytes were sent", err, f.Stats(), l.sent()-sent)
		}
		var hangs atomic.Bool
		l.answer = func(r *request) (how, error) {
			return how{hang: r.digest == "b" && r.from == 0 && hangs.CompareAndSwap(false, true)}, nil
		}
		s = newSink("b", 200*mib)
		began := time.Now()
		err = f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, Patient: true})
		s.check(t)
		if took := time.Since(began); err != nil || f.Stats().Races == 0 || took > 8*time.Second {
			t.Errorf("%v after %s, %+v: a connection that hangs is waited for", err, took, f.Stats())
		}
	})
	bubble(t, "hanging_last_piece", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 10e6}
		var progress atomic.Int64
		l.answer = func(r *request) (how, error) { return how{hang: r.to == r.size && r.n < 9}, nil }
		s := newSink("a", 64*mib)
		began := time.Now()
		err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, Progress: func(n int) { progress.Add(int64(n)) }})
		s.check(t)
		if took := time.Since(began); err != nil || took > 5*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		if progress.Load() != s.size {
			t.Errorf("%d bytes are reported of %d", progress.Load(), s.size)
		}
	})
	bubble(t, "one_small_blob", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 10e6}
		l.answer = func(r *request) (how, error) {
			if r.n == 0 {
				return how{rate: 10e3}, nil
			}
			return how{}, nil
		}
		s := newSink("a", 500*kib)
		var progress atomic.Int64
		began := time.Now()
		err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, Progress: func(n int) { progress.Add(int64(n)) }})
		s.check(t)
		if took := time.Since(began); err != nil || took > 8*time.Second || l.sent() > 2*s.size || progress.Load() != s.size {
			t.Errorf("%v after %s, %d bytes, %d reported", err, took, l.sent(), progress.Load())
		}
	})
	// A connection that fails in a race leaves the other one alone, which may be raced again.
	bubble(t, "the_faster_one_fails", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 10e6}
		var progress atomic.Int64
		l.answer = func(r *request) (how, error) {
			switch {
			case r.n == 0:
				return how{rate: 10e3}, nil
			case r.n < 4:
				return how{}, unavailable()
			}
			return how{rate: 100e3}, nil
		}
		s := newSink("a", 500*kib)
		err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, Progress: func(n int) { progress.Add(int64(n)) }})
		s.check(t)
		if gap := l.asked()[2].began.Sub(l.asked()[1].began); gap < time.Second {
			t.Errorf("it is raced again after %s", gap)
		}
		if err != nil || len(l.asked()) != 5 || progress.Load() != s.size || f.Stats().Retries != 0 {
			t.Errorf("%v, %d requests, %d bytes reported, %+v", err, len(l.asked()), progress.Load(), f.Stats())
		}
	})
	// At the end of a slow link, no bytes come twice: no connection is slower than others.
	bubble(t, "slow_link", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 1e6, all: 1e6}
		s := newSink("a", 40*mib)
		took, err := fetchAll(t, f, l, s)
		s.check(t)
		if err != nil || took > 44*time.Second || l.sent() > s.size+4*mib {
			t.Errorf("%v after %s, %d bytes", err, took, l.sent())
		}
	})
	bubble(t, "even_speeds_are_not_raced", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6}
		s := newSink("a", 100*mib)
		if _, err := fetchAll(t, f, l, s); err != nil || f.Stats().Races > 0 || l.sent() != s.size {
			t.Errorf("%v, %d bytes, %+v", err, l.sent(), f.Stats())
		}
	})
}

func TestNoRanges(t *testing.T) {
	refused := &puller.Error{Kind: puller.ErrRegistryUnavailable, Err: fmt.Errorf("400: %w", puller.ErrNoRanges)}
	for name, answer := range map[string]func(r *request) (how, error){
		"the_whole_instead": func(r *request) (how, error) { return how{whole: true}, nil },
		"refused": func(r *request) (how, error) {
			if r.to-r.from < r.size {
				return how{}, refused
			}
			return how{}, nil
		},
		"refused_later": func(r *request) (how, error) {
			if r.n > 10 && r.to-r.from < r.size {
				return how{}, refused
			}
			return how{}, nil
		},
		"the_whole_later": func(r *request) (how, error) { return how{whole: r.n > 10}, nil },
	} {
		bubble(t, name, func(t *testing.T) {
			f := fetch.New(fetch.Options{Chunk: mib})
			l := &link{each: 10e6, delay: 10 * time.Millisecond, answer: answer}
			a, b := newSink("a", 20*mib), newSink("b", 20*mib)
			if _, err := fetchAll(t, f, l, a, b); err != nil {
				t.Fatal(err)
			}
			a.check(t)
			b.check(t)
			if a.written+b.written > 41*mib {
				t.Errorf("%d bytes were written", a.written+b.written)
			}
			// The registry is remembered, and one request brings all of the next blob.
			before := len(l.asked())
			c := newSink("c", 20*mib)
			if _, err := fetchAll(t, f, l, c); err != nil {
				t.Fatal(err)
			}
			c.check(t)
			asked := l.asked()[before:]
			if len(asked) != 1 || asked[0].from != 0 || asked[0].to != asked[0].size {
				t.Errorf("%+v", asked)
			}
			<-time.After(11 * time.Minute)
			l.answer = nil
			before = len(l.asked())
			if _, err := fetchAll(t, f, l, newSink("d", 20*mib)); err != nil || len(l.asked())-before < 2 {
				t.Errorf("%v, %d requests", err, len(l.asked())-before)
			}
		})
	}
	// A blob that needs one request is slow. What others ask for comes as the whole
	// blob: the first goes on.
	bubble(t, "small_and_slow", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 1e6, answer: func(r *request) (how, error) { return how{whole: true}, nil }}
		s := newSink("a", 8*mib)
		took, err := fetchAll(t, f, l, s)
		s.check(t)
		if err != nil || len(l.asked()) > 4 || took > 9*time.Second || l.sent() > s.size+mib {
			t.Errorf("%v after %s, %d requests, %d bytes", err, took, len(l.asked()), l.sent())
		}
	})
	bubble(t, "only_what_is_missing_is_written", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6, answer: func(r *request) (how, error) { return how{whole: true}, nil }}
		s := newSink("a", 20*mib)
		s.there = []fetch.Range{{From: mib, To: 7 * mib}, {From: 9 * mib, To: 9*mib + 5}}
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
		if s.written != 14*mib-5 {
			t.Errorf("%d bytes were written", s.written)
		}
	})
	bubble(t, "cut", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6}
		l.answer = func(r *request) (how, error) {
			h := how{whole: true}
			if r.n < 4 {
				h.cut = int64(r.n+1) * mib
			}
			return h, nil
		}
		s := newSink("a", 20*mib)
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
		l.answer = func(r *request) (how, error) { return how{whole: true, cut: int64(r.n+1) * 100 * kib}, nil }
		before := len(l.asked())
		if _, err := fetchAll(t, f, l, newSink("b", 100*mib)); puller.KindOf(err) != puller.ErrRegistryUnavailable || len(l.asked())-before > 7 {
			t.Errorf("%v after %d requests", err, len(l.asked())-before)
		}
	})
}

func TestBusy(t *testing.T) {
	for _, most := range []int{1, 2, 4} {
		bubble(t, fmt.Sprint("more_connections_than_", most), func(t *testing.T) {
			var cooled []time.Duration
			f := fetch.New(fetch.Options{Chunk: mib})
			l := &link{each: 1e6}
			refusals := 0
			l.answer = func(r *request) (how, error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				if l.open > most {
					refusals++
					return how{}, busyError(0)
				}
				return how{}, nil
			}
			s := newSink("a", 20*mib)
			began := time.Now()
			err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}, CoolDown: func(d time.Duration) { cooled = append(cooled, d) }})
			took := time.Since(began)
			s.check(t)
			if err != nil || refusals == 0 || refusals > 12 || took > 60*time.Second {
				t.Errorf("%v after %s, %d refusals", err, took, refusals)
			}
			if len(cooled) == 0 || cooled[0] != time.Second || len(cooled) > 2 {
				t.Errorf("cool-downs of %s", cooled)
			}
			if l.sent() != s.size {
				t.Errorf("%d bytes were sent", l.sent())
			}
		})
	}
	bubble(t, "as_long_as_it_says", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 1e6}
		began := time.Now()
		l.answer = func(r *request) (how, error) {
			if at := time.Since(began); at < 20*time.Second {
				if at > 0 {
					t.Errorf("it is asked after %s", at)
				}
				return how{}, busyError(20 * time.Second)
			}
			return how{}, nil
		}
		s := newSink("a", 10*mib)
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
	})
	bubble(t, "that_others_were_told", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		began := time.Now()
		l := &link{each: 1e6}
		l.answer = func(r *request) (how, error) {
			if at := time.Since(began); at < 20*time.Second || at > 20*time.Second && at < 25*time.Second {
				t.Errorf("it is asked after %s", at)
			}
			if time.Since(began) == 20*time.Second {
				f.CoolDown("a.test", 5*time.Second) // what is under way goes on
			}
			return how{}, nil
		}
		f.CoolDown("a.test", 20*time.Second)
		f.CoolDown("a.test", time.Second)
		f.CoolDown("b.test", time.Hour)
		s := newSink("a", 10*mib)
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
	})
	bubble(t, "that_others_were_told_is_bounded", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		f.CoolDown("a.test", time.Hour)
		s := newSink("a", mib)
		if took, err := fetchAll(t, f, &link{each: 1e6}, s); err != nil || took < 30*time.Second || took > 32*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
	bubble(t, "too_long", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 1e6, answer: func(r *request) (how, error) { return how{}, busyError(time.Hour) }}
		took, err := fetchAll(t, f, l, newSink("a", 10*mib))
		if puller.KindOf(err) != puller.ErrRateLimited || puller.RetryAfterOf(err) != time.Hour || took != 0 {
			t.Errorf("%v after %s", err, took)
		}
	})
	bubble(t, "always", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 1e6, answer: func(r *request) (how, error) { return how{}, busyError(0) }}
		took, err := fetchAll(t, f, l, newSink("a", 10*mib))
		if puller.KindOf(err) != puller.ErrRateLimited || !errors.Is(err, puller.ErrBusy) || took > time.Minute || len(l.asked()) > 20 {
			t.Errorf("%v after %s, %d requests", err, took, len(l.asked()))
		}
	})
}

func TestCorrupt(t *testing.T) {
	bubble(t, "once", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6}
		s := newSink("a", 20*mib)
		s.corrupt = 1
		if _, err := fetchAll(t, f, l, s); err != nil {
			t.Fatal(err)
		}
		s.check(t)
		asked := l.asked()
		if last := asked[len(asked)-1]; last.from != 0 || last.to != last.size || l.sent() != 2*s.size {
			t.Errorf("the last request is %+v, %d bytes were sent", last, l.sent())
		}
	})
	bubble(t, "always", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6}
		s := newSink("a", 20*mib)
		s.corrupt = 100
		if _, err := fetchAll(t, f, l, s); puller.KindOf(err) != puller.ErrCorrupt || l.sent() != 2*s.size {
			t.Errorf("%v, %d bytes", err, l.sent())
		}
	})
}

// An error that no retry mends ends the work at once.
func TestRefused(t *testing.T) {
	for _, kind := range []puller.ErrorKind{puller.ErrDenied, puller.ErrNotFound, puller.ErrForbidden, puller.ErrInvalidRequest, puller.ErrCorrupt} {
		bubble(t, string(kind), func(t *testing.T) {
			f := fetch.New(fetch.Options{Chunk: mib})
			l := &link{each: 1e6, answer: func(r *request) (how, error) {
				if r.n < 6 {
					return how{}, nil
				}
				return how{}, puller.Errorf(kind, "no")
			}}
			took, err := fetchAll(t, f, l, newSink("a", 100*mib))
			if puller.KindOf(err) != kind || took > 2*time.Second {
				t.Errorf("%v after %s", err, took)
			}
		})
	}
}
