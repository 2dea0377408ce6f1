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
	if q.free != free || len(q.waiting) != 0 || q.batched != 0 || len(q.registries)+len(q.names)+len(q.callers) != 0 {
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
