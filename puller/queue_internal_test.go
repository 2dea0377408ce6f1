package puller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stand is a place in the queue that a test waits in.
type stand struct {
	*waiter
	ready chan struct{}
}

func (q *queue) stand(at place) *stand {
	s := &stand{ready: make(chan struct{})}
	s.waiter, _ = q.join(at, func() { close(s.ready) }, func(time.Time) {})
	return s
}

// acquire waits for the slot, and returns whether it has it. It has left the
// queue if not.
func (s *stand) acquire(ctx context.Context) bool {
	select {
	case <-s.ready:
		return true
	case <-ctx.Done():
		return !s.abandon()
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

func (q *queue) wantEmpty(t *testing.T, free int) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free != free || len(q.lanes) != 0 || q.batched != 0 || len(q.hosts)+len(q.tags)+len(q.callers) != 0 {
		t.Fatalf("in the end %d slots are free, not %d, %d wait, and %d registries are remembered", q.free, free, len(q.lanes), len(q.hosts))
	}
}

// Waiters that give up while the slot is handed to them neither lose nor
// double it, and no registry is remembered for ever.
func TestTheQueueSurvivesWaitersThatGiveUp(t *testing.T) {
	const all, each = 3, 2
	q := newQueue(all, each)
	var running [4]atomic.Int32
	var work sync.WaitGroup
	for i := range 2000 {
		host := i % 3
		w := q.stand(place{key: transferKey{image: fmt.Sprintf("registry%d.test/image:v%d", host, i%7)}, rank: i % 3, turn: uint64(i), callers: []string{fmt.Sprint(i % 5)}, batched: i%4 == 0})
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
			w.release()
		})
		if rand.IntN(3) > 0 {
			work.Go(cancel)
		} else {
			defer cancel()
		}
		if i%5 == 0 {
			w.raise(2, i%2 == 0, fmt.Sprint(i%3))
		}
	}
	work.Wait()
	q.wantEmpty(t, all)
}

func TestAWaiterThatGaveUpPassesItsSlotOn(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	key, me := transferKey{image: "registry.test/image:v1"}, []string{""}
	for range 100 { // acquire has two ways to go, and takes either
		q := newQueue(1, 0)
		holder, first, second := q.stand(place{key: key, turn: 1, callers: me}), q.stand(place{key: key, rank: 1, turn: 2, callers: me}), q.stand(place{key: key, turn: 3, callers: me})
		if holder.acquire(gone) {
			holder.release() // hands the slot to first
		}
		if first.acquire(gone) {
			first.release()
		}
		if !second.acquire(t.Context()) {
			t.Fatal("the last one has no slot")
		}
		second.release()
		q.wantEmpty(t, 1)
	}
}

// A run whose image is gone again wants it in its old turn, perhaps while the
// transfer that had the turn leaves the queue. Neither is taken for the other.
func TestATransferThatIsShutHasLeftTheQueueBeforeAnotherOneComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Puller{queue: newQueue(1, 0), transfers: make(map[transferKey]*transfer)}
		holder := p.queue.stand(place{key: transferKey{image: "registry.test/other:v1"}, turn: 1, callers: []string{""}})
		old := &transfer{p: p, key: transferKey{image: "registry.test/image:v1"}, callers: []string{""}, turn: 2}
		old.ctx, old.cancel = context.WithCancelCause(t.Context())
		go old.admit() // of its second attempt
		synctest.Wait()
		p.mu.Lock()
		old.stop(context.Canceled)
		next := p.queue.stand(old.place())
		p.mu.Unlock()
		synctest.Wait()
		holder.release()
		if !next.has() {
			t.Fatal("the other one has no slot")
		}
		next.release()
		p.queue.wantEmpty(t, 1)
	})
}
