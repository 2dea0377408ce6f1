package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/queue"
)

func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(5, 2)
		turn := uint64(0)
		join := func(at queue.Place) *queue.Ticket {
			turn++
			at.Turn = turn
			if at.Callers == nil {
				at.Callers = []string{"x"}
			}
			ticket, _ := q.Join(at, func(*queue.Ticket) {}, func(time.Time) {})
			return ticket
		}
		check := func(name string, want puller.QueueState) {
			t.Helper()
			if diff := cmp.Diff(want, q.State()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		check("empty", puller.QueueState{Slots: 5, PerRegistry: 2, Waiting: []puller.WaitingTransfer{}, Registries: []puller.RegistryState{}})

		a := join(queue.Place{Registry: "a.test", Image: "a", Platform: "linux/amd64"})
		second := join(queue.Place{Registry: "a.test", Image: "b"})
		join(queue.Place{Registry: "a.test", Image: "c", Rank: 2, Callers: []string{"x", "y"}}) // waits in two groups
		join(queue.Place{Registry: "b.test", Image: "a", Platform: "linux/arm64", Rank: 1})
		for _, image := range []string{"d", "e"} {
			join(queue.Place{Registry: image + ".test", Image: image, Batched: true})
		}
		limited := join(queue.Place{Registry: "f.test", Image: "f", Identity: [32]byte{1}})
		limited.CoolDown(time.Minute)
		join(queue.Place{Registry: "f.test", Image: "g", Identity: [32]byte{1}})
		join(queue.Place{Registry: "h.test", Image: "h"})
		until := time.Now().Add(time.Minute).UTC()
		registry := func(name string, fetching, waiting int) puller.RegistryState {
			return puller.RegistryState{Registry: name, Fetching: fetching, Waiting: waiting}
		}
		cooling := registry("f.test", 1, 1)
		cooling.CoolDownUntil, cooling.CoolDowns = until, []puller.CoolDown{{Until: until, Login: true}}
		want := puller.QueueState{
			Slots: 5, PerRegistry: 2, Fetching: 5, Queued: puller.Queued{High: 1, Normal: 1, Low: 2},
			Waiting: []puller.WaitingTransfer{
				{Image: "c", Registry: "a.test", Priority: "high", Reason: puller.WaitRegistryLimit},
				{Image: "a", Platform: "linux/arm64", Registry: "b.test", Priority: "normal", Reason: puller.WaitOtherPlatform},
				{Image: "g", Registry: "f.test", Priority: "low", Reason: puller.WaitCoolDown, Until: until},
				{Image: "h", Registry: "h.test", Priority: "low", Reason: puller.WaitSlots},
			},
			Registries: []puller.RegistryState{registry("a.test", 2, 1), registry("b.test", 0, 1), registry("d.test", 1, 0), registry("e.test", 1, 0), cooling, registry("h.test", 0, 1)},
		}
		check("full", want)
		a.Fetched()
		want.Unpacking, want.Fetching = 1, 5 // c has the slot
		want.Queued.High, want.Waiting, want.Registries[0] = 0, want.Waiting[1:], registry("a.test", 2, 0)
		check("unpacking", want)
		second.Release()
		limited.Release()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if s := q.State(); len(s.Waiting) != 1 || s.Waiting[0].Reason != puller.WaitOtherPlatform || len(s.Registries[len(s.Registries)-1].CoolDowns) != 0 {
			t.Errorf("after the cool-down: %+v", s)
		}
	})
}

// A long queue is counted, not listed.
func TestStateOfManyTransfers(t *testing.T) {
	q := queue.New(4, 4)
	for i := range 500 {
		q.Join(queue.Place{Registry: "a.test", Image: "a", Callers: []string{"x"}, Turn: uint64(i), Batched: true}, func(*queue.Ticket) {}, func(time.Time) {})
	}
	s := q.State()
	if n := s.Queued.All(); n != 497 || len(s.Waiting) != puller.MaxWaiting || s.Waiting[0].Reason != puller.WaitPrewarmLimit {
		t.Errorf("%d wait, %d are listed: %+v", n, len(s.Waiting), s.Waiting[0])
	}
}
