// Package rollout decides which members of a set get a generation, and when. It does no I/O and
// starts nothing.
package rollout

import (
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// share is a number of members: so many, or so many hundredths of all.
type share struct {
	set     bool
	percent bool
	n       int
}

// of returns how many members of so many it is.
func (s share) of(members int) int {
	if s.percent {
		return (members*s.n + 99) / 100
	}
	return s.n
}

func parseShare(field, text string, least int) (share, error) {
	if text == "" {
		return share{}, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(number)
	if most := 1_000_000; err != nil || n < least || n > most || percent && n > 100 {
		return share{}, puller.Errorf(puller.ErrInvalidRequest, "rollout: %s: %q is neither a number of hosts, from %d on, nor a share such as 10%%", field, puller.Clip(text), least)
	}
	return share{true, percent, n}, nil
}

// Pace is how fast a rollout goes.
type Pace struct {
	canary, wave, failures share
	pause                  time.Duration
	manual                 bool
}

const maxPause = 7 * 24 * time.Hour

// ParsePace reads what a request says. The error is ErrInvalidRequest and names the field.
func ParsePace(r fleet.RolloutRequest) (p Pace, err error) {
	if p.canary, err = parseShare("canary", r.Canary, 1); err != nil {
		return p, err
	}
	if p.wave, err = parseShare("wave", r.Wave, 1); err != nil {
		return p, err
	}
	if p.failures, err = parseShare("max_failures", r.MaxFailures, 0); err != nil {
		return p, err
	}
	switch r.Pause {
	case "":
	case fleet.PauseManual:
		p.manual = true
	default:
		if p.pause, err = time.ParseDuration(r.Pause); err != nil || p.pause < 0 || p.pause > maxPause {
			return p, puller.Errorf(puller.ErrInvalidRequest, "rollout: pause: %q is neither a duration from 0s to %s nor %s", puller.Clip(r.Pause), maxPause, fleet.PauseManual)
		}
	}
	return p, nil
}

// Pause is how long a rollout waits after a wave.
func (p Pace) Pause() time.Duration { return p.pause }

// size returns how many of so many members the wave after another one has.
func (p Pace) size(wave, members int) int {
	s := p.wave
	if wave == 0 && p.canary.set {
		s = p.canary
	}
	if !s.set {
		return members
	}
	return max(1, s.of(members))
}

// Record is how far a generation is rolled out, as it is kept. Which members have it follows
// from what they are to have.
type Record struct {
	State  fleet.RolloutState `json:"state"`
	Reason string             `json:"reason,omitempty"`
	Wave   int                `json:"wave"`
	Target int                `json:"target"` // how many members may have it
	// Forgiven are failures that somebody has seen who resumed it.
	Forgiven int `json:"forgiven,omitempty"`
}

// Member is what a rollout sees of a host.
type Member struct {
	Host           string
	Live, Released bool
	State          fleet.State // of the present generation
}

// tally counts members.
type tally struct {
	members, released, failures, proven int
	pending                             int      // released, live, and not at an end
	waiting                             []Member // live, and not released
	away                                []string // not live, and not released
}

func count(members []Member) (t tally) {
	t.members = len(members)
	for _, m := range members {
		switch {
		case !m.Released && m.Live:
			t.waiting = append(t.waiting, m)
		case !m.Released:
			t.away = append(t.away, m.Host)
		}
		if !m.Released {
			continue
		}
		t.released++
		switch {
		case m.State == fleet.StateFailed || m.State == fleet.StateRefused:
			t.failures++
		case m.State == fleet.StateProven:
			t.proven++
		case m.Live:
			t.pending++
		}
	}
	return t
}

// rank orders the members of a set: always in the same way, and for each set in another one,
// so that not always the same hosts are the first.
func rank(set, host string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, set+"\x00"+host)
	return h.Sum64()
}

// Step returns what a rollout comes to, and the members that it releases now: the record is to
// be kept first. Whoever goes on after a part of them was released comes to the same. paused
// is how long it has been pausing.
func (r Record) Step(set string, p Pace, members []Member, paused time.Duration) (Record, []string) {
	t := count(members)
	switch r.State {
	case fleet.RolloutDone:
		return r, append(hostsOf(t.waiting), t.away...)
	case fleet.RolloutRunning, fleet.RolloutPausing:
	default:
		return r, nil
	}
	if most := p.failures.of(t.members); p.failures.set && t.failures-r.Forgiven > most {
		r.State = fleet.RolloutStopped
		r.Reason = fmt.Sprintf("%d of %d hosts failed or refused, and %d may (max_failures); the others keep what they have; resume it, cancel it, or put the set again", t.failures-r.Forgiven, t.released, most)
		return r, nil
	}
	if r.State == fleet.RolloutPausing {
		if paused < p.pause {
			return r, nil
		}
		r = r.next(p, t)
	}
	if r.Target == 0 {
		r = r.next(p, t)
	}
	if room := r.Target - t.released; room > 0 && len(t.waiting) > 0 {
		slices.SortFunc(t.waiting, func(a, b Member) int {
			x, y := rank(set, a.Host), rank(set, b.Host)
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return strings.Compare(a.Host, b.Host)
		})
		now := hostsOf(t.waiting[:min(room, len(t.waiting))])
		if len(now) < len(t.waiting) {
			return r, now
		}
		// These are the last that are there. Those that are away get it when they come.
		return r.done(), append(now, t.away...)
	}
	switch {
	case len(t.waiting) == 0 && t.released == 0 && t.members > 0:
		return r, nil // nobody is there
	case len(t.waiting) == 0:
		return r.done(), t.away
	case t.pending > 0:
		return r, nil
	case t.proven == 0 && t.released > 0 && r.Forgiven == 0:
		r.State = fleet.RolloutStopped
		r.Reason = fmt.Sprintf("none of the %d hosts that may have it has proven it; the others keep what they have; resume it, cancel it, or put the set again", t.released)
		return r, nil
	case p.manual:
		r.State, r.Reason = fleet.RolloutPaused, fmt.Sprintf("wave %d has ended, and rollout.pause is %s: resume it for the next one", r.Wave, fleet.PauseManual)
		return r, nil
	case p.pause > 0:
		r.State = fleet.RolloutPausing
		return r, nil
	}
	return r.next(p, t).Step(set, p, members, 0)
}

// next begins the next wave.
func (r Record) next(p Pace, t tally) Record {
	r.State, r.Reason = fleet.RolloutRunning, ""
	r.Target = t.released + p.size(r.Wave, t.members)
	r.Wave++
	return r
}

func (r Record) done() Record {
	r.State, r.Reason = fleet.RolloutDone, ""
	return r
}

// Change applies what a call wants.
func (r Record) Change(p Pace, members []Member, action fleet.RolloutAction, caller string) (Record, error) {
	if r.State.Ended() {
		return r, puller.Errorf(puller.ErrConflict, "the rollout is %s, so there is nothing to %s; apply the set again for another rollout", r.State, action)
	}
	by := ""
	if caller != "" {
		by = " by " + caller
	}
	t := count(members)
	switch action {
	case fleet.ActionPause:
		if r.State == fleet.RolloutStopped {
			return r, puller.Errorf(puller.ErrConflict, "the rollout is stopped already")
		}
		r.State, r.Reason = fleet.RolloutPaused, "paused"+by
	case fleet.ActionResume:
		r.Forgiven = t.failures
		if t.released >= r.Target && t.pending == 0 {
			return r.next(p, t), nil
		}
		r.State, r.Reason = fleet.RolloutRunning, ""
	case fleet.ActionCancel:
		r.State, r.Reason = fleet.RolloutCanceled, "canceled"+by
	default:
		return r, puller.Errorf(puller.ErrInvalidRequest, "action: %q is not known; use %s, %s or %s", puller.Clip(string(action)), fleet.ActionPause, fleet.ActionResume, fleet.ActionCancel)
	}
	return r, nil
}

func hostsOf(members []Member) (hosts []string) {
	for _, m := range members {
		hosts = append(hosts, m.Host)
	}
	return hosts
}
