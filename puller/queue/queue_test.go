package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stand is a place in the queue that a test waits in.
type stand struct {
	*Ticket
	ready chan struct{}
}

func (q *Queue) stand(at Place) *stand {
	s := &stand{ready: make(chan struct{})}
	s.Ticket, _ = q.Join(at, func(*Ticket) { close(s.ready) }, func(time.Time) {})
	return s
}

// acquire waits for the slot, and returns whether it has it. It has left the
// queue if not.
func (s *stand) acquire(ctx context.Context) bool {
	select {
	case <-s.ready:
		return true
	case <-ctx.Done():
		return !s.Abandon()
	}
}

func (s *stand) has() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

func (q *Queue) wantEmpty(t *testing.T, free int) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free != free || len(q.waiting) != 0 || q.batched != 0 || q.unpacking != 0 || len(q.registries)+len(q.names)+len(q.callers) != 0 {
		t.Fatalf("in the end %d slots are free, not %d, %d wait, and %d registries are remembered", q.free, free, len(q.waiting), len(q.registries))
	}
}

// Waiters that give up while the slot is handed to them neither lose nor
// double it, and no registry is remembered for ever.
func TestQueueAbandon(t *testing.T) {
	const all, each = 3, 2
	q := New(all, each)
	var running [4]atomic.Int32
	var work sync.WaitGroup
	for i := range 2000 {
		host := i % 3
		w := q.stand(place(fmt.Sprintf("registry%d.test/image:v%d", host, i%7), Place{Rank: i % 3, Turn: uint64(i), Callers: []string{fmt.Sprint(i % 5)}, Batched: i%4 == 0}))
		ctx, cancel := context.WithCancel(t.Context())
		work.Go(func() {
			if !w.acquire(ctx) {
				return
			}
			if n := running[3].Add(1); n > all {
				t.Errorf("%d have a slot", n)
			}
			if n := running[host].Add(1); n > each {
				t.Errorf("%d have a slot of one registry", n)
			}
			running[host].Add(-1)
			running[3].Add(-1)
			if i%7 == 0 {
				w.Fetched()
				w.Raise(2, false, "late")
			}
			w.Release()
		})
		if rand.IntN(3) > 0 {
			work.Go(cancel)
		} else {
			defer cancel()
		}
		if i%5 == 0 {
			w.Raise(2, i%2 == 0, fmt.Sprint(i%3))
		}
	}
	work.Wait()
	q.wantEmpty(t, all)
}

func TestQueueAbandonPassesSlot(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	image, me := "registry.test/image:v1", []string{""}
	for range 100 { // acquire has two ways to go, and takes either
		q := New(1, 0)
		holder, first, second := q.stand(place(image, Place{Turn: 1, Callers: me})), q.stand(place(image, Place{Rank: 1, Turn: 2, Callers: me})), q.stand(place(image, Place{Turn: 3, Callers: me}))
		if holder.acquire(gone) {
			holder.Release() // hands the slot to first
		}
		if first.acquire(gone) {
			first.Release()
		}
		if !second.acquire(t.Context()) {
			t.Fatal("the last one has no slot")
		}
		second.Release()
		q.wantEmpty(t, 1)
	}
}

// While an engine unpacks, others fetch: so many as there are slots.
func TestQueueFetched(t *testing.T) {
	q, me := New(3, 2), []string{""}
	stands := make([]*stand, 8)
	for i := range stands {
		stands[i] = q.stand(place(fmt.Sprintf("registry.test/image%d:v1", i), Place{Turn: uint64(i), Callers: me}))
	}
	other := q.stand(place("registry.test/image0:v1", Place{Platform: "linux/arm64", Turn: 9, Callers: me}))
	has := func(n int) {
		t.Helper()
		for i, s := range stands {
			if s.has() != (i < n) {
				t.Fatalf("ticket %d has a slot: %t, but %d have one", i, s.has(), n)
			}
		}
		if other.has() {
			t.Fatal("two platforms of one image have slots at a time")
		}
	}
	has(2)
	stands[0].Fetched()
	has(3)
	stands[0].Fetched() // has no effect
	has(3)
	for _, s := range stands[1:3] {
		s.Fetched()
	}
	has(5)
	stands[3].Fetched() // three unpack already
	has(5)
	stands[2].Release()
	has(5)
	stands[4].Fetched()
	has(6)
	stands[3].Release()
	has(7)
	for _, i := range []int{1, 4, 5, 6, 7} {
		stands[i].Release()
	}
	has(8)
	stands[0].Release()
	if !other.has() {
		t.Fatal("the other platform has no slot in the end")
	}
	other.Release()
	q.wantEmpty(t, 3)
}

// place is where a transfer of an image waits.
func place(image string, p Place) Place {
	p.Image = image
	p.Registry, _, _ = strings.Cut(image, "/")
	return p
}

// Names of registries come from outside: none is remembered for long.
func TestQueueForgetsCoolDowns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(4, 2)
		for i := range 1000 {
			w := q.stand(place(fmt.Sprintf("registry%d.test/image:v1", i), Place{Callers: []string{""}, Turn: uint64(i)}))
			if !w.acquire(t.Context()) {
				t.Fatal("it has no slot")
			}
			w.CoolDown(time.Duration(i) * time.Hour)
			w.Release()
		}
		<-time.After(longestCoolDown + time.Second)
		synctest.Wait()
		q.wantEmpty(t, 4)
	})
}

// A run whose image is gone again wants it in its old turn, perhaps while the
// transfer that had the turn leaves the queue. Neither is taken for the other.
func TestQueueEqualTurns(t *testing.T) {
	for gone := range 2 {
		q, me := New(1, 0), []string{""}
		holder := q.stand(place("registry.test/other:v1", Place{Turn: 1, Callers: me}))
		both := []*stand{}
		for range 2 {
			both = append(both, q.stand(place("registry.test/image:v1", Place{Turn: 2, Callers: me})))
		}
		if !both[gone].Abandon() {
			t.Fatal("a ticket that waits has a slot")
		}
		holder.Release()
		left := both[1-gone]
		if !left.has() {
			t.Fatal("the other one has no slot")
		}
		left.Release()
		q.wantEmpty(t, 1)
	}
}
