package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller/queue"
)

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(2, 0)
		nothing := func(time.Time) {}
		join := func(image string, callers ...string) *queue.Ticket {
			ticket, _ := q.Join(queue.Place{Registry: "a.test", Image: image, Callers: callers}, func(*queue.Ticket) {}, nothing)
			return ticket
		}
		first := join("a", "x")
		join("b", "x")
		join("c", "x", "y") // waits in two groups
		join("d", "y")
		want := queue.Stats{Slots: 2, Waiting: 2}
		if diff := cmp.Diff(want, q.Stats()); diff != "" {
			t.Errorf("with two of four running (-want +got):\n%s", diff)
		}
		first.CoolDown(time.Minute)
		first.CoolDown(time.Minute) // the same
		want.Cooling, want.CoolDowns = 1, 1
		if diff := cmp.Diff(want, q.Stats()); diff != "" {
			t.Errorf("in a cool-down (-want +got):\n%s", diff)
		}
		first.Release()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		want.Cooling, want.Waiting = 0, 1
		if diff := cmp.Diff(want, q.Stats()); diff != "" {
			t.Errorf("after it (-want +got):\n%s", diff)
		}
	})
}
