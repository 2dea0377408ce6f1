package known

import (
	"fmt"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// Outcome reports whether a set does not go on by itself, and which members have not proven
// it.
func Outcome(set fleet.Set) (over bool, err error) {
	live := 0
	var not []fleet.MemberState
	pending := false
	for _, m := range set.Members {
		if m.State == fleet.StateAway {
			continue
		}
		live++
		if m.State != fleet.StateProven {
			not = append(not, m)
			pending = pending || !m.State.Ended()
		}
	}
	switch set.Rollout.State {
	case fleet.RolloutRunning, fleet.RolloutPausing:
		if len(set.Members) == 0 || live > 0 {
			return false, nil
		}
	case fleet.RolloutDone:
		if pending {
			return false, nil
		}
	}
	switch {
	case live == 0:
		return true, puller.Errorf(puller.ErrNotFound, "no host of the set %s is there: %d match its labels, and all are away", set.Name, len(set.Members))
	case len(not) == 0:
		return true, nil
	}
	// Members that are waited for are still at it where the rollout has ended or stands.
	const most = 5
	kind := puller.ErrorKind("")
	var which []string
	for _, m := range not {
		if m.State.Ended() && kind == "" {
			kind = m.Kind
		}
		if len(which) < most {
			text := m.Host + " (" + string(m.State)
			if m.Error != "" {
				text += ": " + puller.Clip(m.Error)
			}
			which = append(which, text+")")
		}
	}
	if len(not) > most {
		which = append(which, fmt.Sprintf("and %d more", len(not)-most))
	}
	if kind == "" {
		kind = puller.ErrConflict // nothing has failed; the rollout stands
	}
	reason := ""
	if set.Rollout.State != fleet.RolloutDone {
		reason = fmt.Sprintf("; the rollout is %s: %s", set.Rollout.State, set.Rollout.Reason)
	}
	return true, puller.Errorf(kind, "%d of %d hosts have not proven generation %d of the set %s: %s%s", len(not), live, set.Generation, set.Name, strings.Join(which, ", "), reason)
}
