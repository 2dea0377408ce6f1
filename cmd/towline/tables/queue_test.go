package tables_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
)

func TestQueue(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	until := now.Add(299 * time.Second)
	for _, c := range []struct {
		name  string
		state puller.QueueState
		want  string
	}{
		{"empty", puller.QueueState{Slots: 8, PerRegistry: 6}, "0 of 8 slots fetch, 0 only unpack, 0 wait (0 high, 0 normal, 0 low)\n"},
		{"full", puller.QueueState{
			Slots: 2, PerRegistry: 1, Fetching: 2, Unpacking: 1, Queued: puller.Queued{High: 1, Low: 3},
			Waiting: []puller.WaitingTransfer{
				{Image: "docker.io/library/a:v1", Registry: "docker.io", Priority: puller.PriorityHigh, Reason: puller.WaitCoolDown, Until: until},
				{Image: "b.test/\x1b[2Jb:v1", Platform: "linux/arm64", Registry: "b.test", Priority: puller.PriorityLow, Reason: puller.WaitRegistryLimit},
				{Image: "b.test/c:v1", Registry: "b.test", Priority: puller.PriorityLow, Reason: "of_later_daemons"},
			},
			Registries: []puller.RegistryState{
				{Registry: "b.test", Fetching: 1, Waiting: 3},
				{Registry: "docker.io", Fetching: 1, Waiting: 1, CoolDownUntil: until, CoolDowns: []puller.CoolDown{{Until: now.Add(time.Second)}, {Until: until, Login: true}}},
			},
		}, `2 of 2 slots fetch, 1 only unpack, 4 wait (1 high, 0 normal, 3 low)

REGISTRY   FETCH   WAIT  COOL-DOWN
b.test     1 of 1  3     -
docker.io  1 of 1  1     pulls without a login, 1s left; pulls with a login, 4m59s left

IMAGE                   PLATFORM     PRIORITY  WAITS FOR
docker.io/library/a:v1  -            high      the cool-down of its registry, 4m59s left
b.test/` + "\ufffd" + `[2Jb:v1         linux/arm64  low       a slot of its registry
b.test/c:v1             -            low       of_later_daemons
and 1 more
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if err := tables.Queue(&out, c.state, now); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
