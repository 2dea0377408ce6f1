package answers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/puller/fleet"
)

// maxMembers is how many members a problem names at most.
const maxMembers = 100

// ProblemOfSet is the problem of a set of the fleet that not all members have proven that
// are there. set is zero where it is not known.
func ProblemOfSet(err error, set fleet.Set) Problem {
	p := ProblemOf(err)
	set.Members = slices.DeleteFunc(slices.Clone(set.Members), func(m fleet.MemberState) bool { return m.State == fleet.StateProven || m.State == fleet.StateAway })
	if set.Name != "" {
		p.lines = FleetText(set)
	}
	p.Members = set.Members[:min(len(set.Members), maxMembers)]
	return p
}

// FleetText returns a set of a fleet as lines for people: one for each of its members, and
// two for the set.
func FleetText(set fleet.Set) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	for i, m := range set.Members {
		if b.Len() > maxText {
			line("and %d more hosts", len(set.Members)-i)
			break
		}
		switch {
		case m.Error != "" && m.Kind != "":
			line("%s: %s: %s: %s", m.Host, m.State, m.Kind, m.Error)
		case cmp.Or(m.Error, m.Digest) != "":
			line("%s: %s: %s", m.Host, m.State, cmp.Or(m.Error, m.Digest))
		default:
			line("%s: %s", m.Host, m.State)
		}
	}
	if set.Error != "" {
		line("its tags could not be resolved again: %s", set.Error)
	}
	rollout := string(set.Rollout.State)
	if set.Rollout.Reason != "" {
		rollout += ", " + set.Rollout.Reason
	}
	line("rollout: %s; %d of %d hosts may have it", rollout, set.Rollout.Released, set.Rollout.Members)
	line("set %s: generation %d, %s", set.Name, set.Generation, counts(set))
	return b.String()
}

// counts writes how many members are in each state.
func counts(set fleet.Set) string {
	var words []string
	for _, state := range fleet.States {
		if n := set.Counts[state]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, state))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "no host")
}
