package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/fetch"
)

func TestFetch(t *testing.T) {
	bubble(t, "every_byte_once", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6, delay: 40 * time.Millisecond}
		sinks := []*sink{newSink("config", 5*kib), newSink("empty", 0), newSink("one", 1), newSink("chunk", mib), newSink("more", mib+1), newSink("large", 30*mib+7)}
		var progress atomic.Int64
		w := fetch.Work{Repository: l, Registry: "a.test", Progress: func(n int) { progress.Add(int64(n)) }}
		total := int64(0)
		for _, s := range sinks {
			w.Sinks = append(w.Sinks, s)
			total += s.size
		}
		w.Sinks = append(w.Sinks, sinks[5]) // it is fetched once
		if err := f.Fetch(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		for _, s := range sinks {
			s.check(t)
		}
		if l.sent() != total || progress.Load() != total || f.Stats().Bytes != total {
			t.Errorf("%d bytes were sent and %d reported, not %d", l.sent(), progress.Load(), total)
		}
		pieces := make(map[string]int)
		for _, r := range l.asked() {
			pieces[r.digest]++
			if r.to-r.from > mib {
				t.Errorf("a piece has %d bytes", r.to-r.from)
			}
		}
		if diff := cmp.Diff(map[string]int{"config": 1, "one": 1, "chunk": 1, "more": 2, "large": 31}, pieces); diff != "" {
			t.Error(diff)
		}
	})
	bubble(t, "order", func(t *testing.T) {
		f := fetch.New(fetch.Options{Connections: 1, Chunk: mib})
		l := &link{each: 10e6}
		if _, err := fetchAll(t, f, l, newSink("config", kib), newSink("base", 2*mib), newSink("top", 2*mib)); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, r := range l.asked() {
			order = append(order, fmt.Sprint(r.digest, " ", r.from/mib))
		}
		if diff := cmp.Diff([]string{"config 0", "base 0", "base 1", "top 0", "top 1"}, order); diff != "" {
			t.Error(diff)
		}
	})
	bubble(t, "lowest_layer_in_smaller_pieces", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 10e6}
		lowest, next := newSink("lowest", 20*mib), newSink("next", 20*mib)
		next.below = 1
		if _, err := fetchAll(t, f, l, lowest, next); err != nil {
			t.Fatal(err)
		}
		pieces := make(map[string]int)
		for _, r := range l.asked() {
			pieces[r.digest]++
		}
		if diff := cmp.Diff(map[string]int{"lowest": 20, "next": 10}, pieces); diff != "" {
			t.Error(diff)
		}
	})
	bubble(t, "what_is_missing", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6}
		s, whole := newSink("part", 10*mib), newSink("whole", mib)
		s.there = []fetch.Range{{From: 0, To: 3 * mib}, {From: 5 * mib, To: 6*mib + 1}}
		whole.there = []fetch.Range{{From: 0, To: mib}}
		if _, err := fetchAll(t, f, l, s, whole); err != nil {
			t.Fatal(err)
		}
		s.check(t)
		if want := 6*mib - 1; l.sent() != want {
			t.Errorf("%d bytes, not %d", l.sent(), want)
		}
	})
	bubble(t, "nothing", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{}
		if _, err := fetchAll(t, f, l); err != nil {
			t.Error(err)
		}
		if _, err := fetchAll(t, f, l, newSink("empty", 0)); err != nil || len(l.asked()) > 0 {
			t.Error(err, l.asked())
		}
	})
	bubble(t, "cancel", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		why := errors.New("the job is canceled")
		for name, l := range map[string]*link{
			"while bytes come": {each: 1e6},
			"in a cool-down":   {each: 1e6, answer: func(*request) (how, error) { return how{}, busyError(20 * time.Second) }},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2*time.Second, func() { cancel(why) })
			s := newSink("a", 100*mib)
			began := time.Now()
			err := f.Fetch(ctx, fetch.Work{Repository: l, Registry: name, Sinks: []fetch.Sink{s}})
			if err != why || time.Since(began) != 2*time.Second || f.Stats().Connections != 0 {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
		}
	})
	bubble(t, "rate", func(t *testing.T) {
		f := fetch.New(fetch.Options{Rate: 2e6, Chunk: mib})
		l := &link{each: 10e6}
		s := newSink("a", 20*mib)
		took, err := fetchAll(t, f, l, s)
		s.check(t)
		if want := time.Duration(float64(20*mib) / 2e6 * float64(time.Second)); err != nil || took < want*9/10 || took > want*11/10 {
			t.Errorf("%v after %s, not %s", err, took, want)
		}
		if l.sent() != s.size {
			t.Errorf("%d bytes were sent", l.sent())
		}
	})
	bubble(t, "sink_error", func(t *testing.T) {
		for _, kind := range []puller.ErrorKind{puller.ErrNoSpace, puller.ErrInternal} {
			f := fetch.New(fetch.Options{})
			s := newSink("a", 100*mib)
			s.err = puller.Errorf(kind, "it can't be written")
			if _, err := fetchAll(t, f, &link{each: 1e6}, s); puller.KindOf(err) != kind {
				t.Error(err)
			}
		}
	})
}

// A link that is shared by few connections is not given more of them.
func TestConnections(t *testing.T) {
	for _, c := range []struct {
		name        string
		o           fetch.Options
		size        int64
		each, all   float64
		least, most int           // connections
		longest     time.Duration // that it may take
	}{
		{"grow", fetch.Options{}, 191 * mib, 10e6, 0, 16, 16, 1900 * time.Millisecond},
		{"grow_to_the_limit_of_the_registry", fetch.Options{PerRegistry: 5}, 95 * mib, 10e6, 0, 5, 5, 2500 * time.Millisecond},
		{"grow_to_the_limit_of_all", fetch.Options{Connections: 6}, 95 * mib, 10e6, 0, 6, 6, 2200 * time.Millisecond},
		{"grow_to_the_rate_of_the_link", fetch.Options{}, 191 * mib, 10e6, 60e6, 8, 16, 4000 * time.Millisecond},
		{"stop_where_the_line_is_full", fetch.Options{PerRegistry: 24}, 191 * mib, 10e6, 60e6, 18, 18, 4000 * time.Millisecond},
		{"one", fetch.Options{Connections: 1}, 95 * mib, 100e6, 0, 1, 1, 1500 * time.Millisecond},
	} {
		bubble(t, c.name, func(t *testing.T) {
			f := fetch.New(c.o)
			l := &link{each: c.each, all: c.all, delay: 40 * time.Millisecond}
			s := newSink("a", c.size)
			took, err := fetchAll(t, f, l, s)
			s.check(t)
			if err != nil || l.most < c.least || l.most > c.most || took > c.longest {
				t.Errorf("%v after %s, with %d connections", err, took, l.most)
			}
			if waste := l.sent() - s.size; waste > 4*mib {
				t.Errorf("%d bytes too many", waste)
			}
		})
	}
	bubble(t, "do_not_grow", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		l := &link{each: 10e6, all: 20e6, delay: time.Millisecond}
		if _, err := fetchAll(t, f, l, newSink("a", 100*mib)); err != nil {
			t.Fatal(err)
		}
		if l.grown > 3 {
			t.Errorf("%d connections, %d times more than 6", l.most, l.grown)
		}
		r := f.Rate("a.test")
		if r.Bytes < 100*mib || math.Abs(r.All-20e6) > 4e6 || r.One < 4e6 || r.One > 11e6 {
			t.Errorf("%+v", r)
		}
	})
	for _, c := range []struct {
		name      string
		each, all float64
	}{{"one_is_slow", 10e6, 0}, {"one_fills_the_line", 100e6, 100e6}} {
		bubble(t, c.name, func(t *testing.T) {
			f := fetch.New(fetch.Options{})
			l := &link{each: c.each, all: c.all, delay: time.Millisecond}
			for range 2 { // the second one is not measured again
				if _, err := fetchAll(t, f, l, newSink("config", kib), newSink("a", 95*mib)); err != nil {
					t.Fatal(err)
				}
				r := f.Rate("a.test")
				if math.Abs(r.One-c.each) > c.each/10 || r.All < 100e6*9/10 || r.Bytes < 95*mib {
					t.Errorf("%+v", r)
				}
			}
			waited := 0 // requests that began later than the first one for the layer
			for _, r := range l.asked()[1:5] {
				if !r.began.Equal(l.asked()[1].began) {
					waited++
				}
			}
			if waited != 3 {
				t.Errorf("%d requests waited for the measurement", waited)
			}
		})
	}
	bubble(t, "probe_that_hangs", func(t *testing.T) {
		f := fetch.New(fetch.Options{})
		l := &link{each: 10e6, answer: func(r *request) (how, error) { return how{hang: r.n == 0}, nil }}
		s := newSink("a", 95*mib)
		took, err := fetchAll(t, f, l, s)
		s.check(t)
		if err != nil || took > 5*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
	bubble(t, "two_registries", func(t *testing.T) {
		f := fetch.New(fetch.Options{Connections: 10, PerRegistry: 8, Chunk: mib})
		a, b := &link{each: 5e6}, &link{each: 5e6}
		var most int
		var mu sync.Mutex
		watch := func(*request) (how, error) {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, f.Stats().Connections)
			return how{}, nil
		}
		a.answer, b.answer = watch, watch
		var both sync.WaitGroup
		for name, l := range map[string]*link{"a.test": a, "b.test": b} {
			both.Go(func() {
				s := newSink(name, 100*mib)
				if err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: name, Sinks: []fetch.Sink{s}}); err != nil {
					t.Error(err)
				}
				s.check(t)
			})
		}
		both.Wait()
		if most != 10 || a.most > 8 || b.most > 8 {
			t.Errorf("%d connections, %d and %d to each", most, a.most, b.most)
		}
	})
}

func TestWorks(t *testing.T) {
	bubble(t, "share", func(t *testing.T) {
		f := fetch.New(fetch.Options{PerRegistry: 8, Chunk: mib})
		l := &link{each: 1e6}
		var done []string
		var mu sync.Mutex
		var all sync.WaitGroup
		for i, name := range []string{"first", "second", "third"} {
			all.Go(func() {
				<-time.After(time.Duration(i) * time.Second)
				s := newSink(name, 80*mib)
				if err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}}); err != nil {
					t.Error(err)
				}
				s.check(t)
				mu.Lock()
				defer mu.Unlock()
				done = append(done, name)
			})
		}
		connections := func() map[string]int {
			synctest.Wait()
			now := make(map[string]int)
			for _, r := range l.asked() {
				if !r.closed {
					now[r.digest]++
				}
			}
			return now
		}
		<-time.After(6 * time.Second)
		if diff := cmp.Diff(map[string]int{"first": 6, "second": 1, "third": 1}, connections()); diff != "" {
			t.Error(diff)
		}
		for range 30 { // the first one ends
			<-time.After(time.Second)
			if connections()["first"] == 0 {
				break
			}
		}
		<-time.After(2 * time.Second)
		if diff := cmp.Diff(map[string]int{"second": 4, "third": 4}, connections()); diff != "" {
			t.Error(diff)
		}
		all.Wait()
		if diff := cmp.Diff([]string{"first", "second", "third"}, done); diff != "" {
			t.Error(diff)
		}
	})
	bubble(t, "need_first", func(t *testing.T) {
		f := fetch.New(fetch.Options{Connections: 1, Chunk: mib})
		l := &link{each: 1e6}
		prefetch, needed := newSink("prefetch", 10*mib), newSink("needed", 10*mib)
		needed.there = []fetch.Range{{From: mib, To: 2 * mib}}
		var both sync.WaitGroup
		for _, s := range []*sink{prefetch, needed} {
			both.Go(func() {
				if err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: "a.test", Sinks: []fetch.Sink{s}}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		needed.want(5*mib + 10)
		both.Wait()
		var order []string
		for _, r := range l.asked()[1:4] {
			order = append(order, fmt.Sprint(r.digest, " ", r.from))
		}
		if diff := cmp.Diff([]string{"needed 5242890", "needed 0", "needed 2097152"}, order); diff != "" {
			t.Error(diff)
		}
		prefetch.check(t)
		needed.check(t)
	})
	bubble(t, "one_fails", func(t *testing.T) {
		f := fetch.New(fetch.Options{Chunk: mib})
		bad := &link{each: 1e6, answer: func(r *request) (how, error) {
			if r.n == 5 {
				return how{}, puller.Errorf(puller.ErrNotFound, "the blob is gone")
			}
			return how{}, nil
		}}
		good := &link{each: 1e6}
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := fetchAllOf(t, f, bad, "bad.test", newSink("a", 20*mib)); puller.KindOf(err) != puller.ErrNotFound {
				t.Error(err)
			}
		})
		both.Go(func() {
			s := newSink("b", 20*mib)
			if _, err := fetchAllOf(t, f, good, "good.test", s); err != nil {
				t.Error(err)
			}
			s.check(t)
		})
		both.Wait()
	})
}

func fetchAllOf(t *testing.T, f *fetch.Fetcher, l *link, registry string, s *sink) (time.Duration, error) {
	began := time.Now()
	err := f.Fetch(t.Context(), fetch.Work{Repository: l, Registry: registry, Sinks: []fetch.Sink{s}})
	return time.Since(began), err
}
