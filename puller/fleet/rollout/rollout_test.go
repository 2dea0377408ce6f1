package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/rollout"
)

// lab has members, and steps a rollout as the controller does.
type lab struct {
	*testing.T
	rollout.Record
	pace    rollout.Pace
	members []rollout.Member
	since   time.Time // it is pausing
}

func newLab(t *testing.T, n int, request fleet.RolloutRequest) *lab {
	p, err := rollout.ParsePace(request)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{T: t, Record: rollout.Record{State: fleet.RolloutRunning}, pace: p}
	for i := range n {
		l.members = append(l.members, rollout.Member{Host: fmt.Sprint("host-", i), Live: true, State: fleet.StateWaiting})
	}
	return l
}

// step lets the rollout go on as far as it can, and returns how many it has released.
func (l *lab) step() (n int) {
	for {
		was := l.State
		next, released := l.Record.Step("web", l.pace, l.members, time.Since(l.since))
		if next.State == fleet.RolloutPausing && was != next.State {
			l.since = time.Now()
		}
		l.Record = next
		for i := range l.members {
			if slices.Contains(released, l.members[i].Host) {
				if l.members[i].Released {
					l.Fatalf("%s is released twice", l.members[i].Host)
				}
				l.members[i].Released = true
			}
		}
		if n += len(released); len(released) == 0 && was == l.State {
			return n
		}
	}
}

// end has so many released members come to an end, all for -1.
func (l *lab) end(state fleet.State, n int) {
	for i := range l.members {
		if m := &l.members[i]; n != 0 && m.Released && m.Live && !m.State.Ended() {
			m.State = state
			n--
		}
	}
}

// released returns how many members are released.
func (l *lab) released() (n int) {
	for _, m := range l.members {
		if m.Released {
			n++
		}
	}
	return n
}

func (l *lab) is(state fleet.RolloutState, wave, released int) {
	l.Helper()
	if n := l.released(); l.State != state || l.Wave != wave || n != released {
		l.Errorf("it is %s at wave %d with %d released (%s), not %s at %d with %d", l.State, l.Wave, n, l.Reason, state, wave, released)
	}
}

func TestRollout(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		l := newLab(t, 10, fleet.RolloutRequest{})
		l.members[3].Live = false
		l.step()
		l.is(fleet.RolloutDone, 1, 10) // who is away gets it on return
		l.members = append(l.members, rollout.Member{Host: "new", Live: true})
		l.step()
		l.is(fleet.RolloutDone, 1, 11)
	})
	t.Run("waves", func(t *testing.T) {
		l := newLab(t, 25, fleet.RolloutRequest{Canary: "1", Wave: "10%"})
		l.step()
		l.is(fleet.RolloutRunning, 1, 1)
		l.step()
		l.is(fleet.RolloutRunning, 1, 1)
		for wave, released := range []int{1, 4, 7, 10, 13, 16, 19, 22} {
			l.is(fleet.RolloutRunning, wave+1, released)
			l.end(fleet.StateProven, -1)
			l.step()
		}
		l.is(fleet.RolloutDone, 9, 25)
	})
	t.Run("away", func(t *testing.T) {
		l := newLab(t, 4, fleet.RolloutRequest{Wave: "2"})
		for i := range l.members {
			l.members[i].Live = false
		}
		l.step()
		l.is(fleet.RolloutRunning, 1, 0) // nobody is there
		for i := range 3 {
			l.members[i].Live = true
		}
		l.step()
		l.is(fleet.RolloutRunning, 1, 2)
		l.end(fleet.StateProven, 1)
		for i := range l.members { // one of the wave goes away
			if m := &l.members[i]; m.Released && !m.State.Ended() {
				m.Live = false
			}
		}
		l.step()
		l.is(fleet.RolloutDone, 2, 4)
	})
	t.Run("failures", func(t *testing.T) {
		l := newLab(t, 100, fleet.RolloutRequest{Wave: "10%", MaxFailures: "5%"})
		l.step()
		l.end(fleet.StateFailed, 5)
		l.step()
		l.is(fleet.RolloutRunning, 1, 10)
		l.end(fleet.StateProven, -1)
		l.step()
		l.is(fleet.RolloutRunning, 2, 20)
		l.end(fleet.StateRefused, 1)
		l.step()
		l.is(fleet.RolloutStopped, 2, 20)
		if !strings.Contains(l.Reason, "6 of 20 hosts") {
			t.Error(l.Reason)
		}
		l.act(fleet.ActionResume)
		l.step()
		l.is(fleet.RolloutRunning, 2, 20) // its members are not at an end
		l.end(fleet.StateProven, -1)
		l.step()
		l.is(fleet.RolloutRunning, 3, 30)
		l.end(fleet.StateFailed, 6)
		l.step()
		l.is(fleet.RolloutStopped, 3, 30)
		l.act(fleet.ActionCancel)
		l.step()
		l.is(fleet.RolloutCanceled, 3, 30)
		if _, err := l.Change(l.pace, l.members, fleet.ActionResume, ""); puller.KindOf(err) != puller.ErrConflict {
			t.Error(err)
		}
	})
	t.Run("first_failure", func(t *testing.T) {
		l := newLab(t, 3, fleet.RolloutRequest{Wave: "2", MaxFailures: "0"})
		l.step()
		l.end(fleet.StateFailed, 1)
		l.step()
		l.is(fleet.RolloutStopped, 1, 2)
	})
	t.Run("nobody_proven", func(t *testing.T) {
		l := newLab(t, 3, fleet.RolloutRequest{Wave: "1"})
		l.step()
		l.end(fleet.StateFailed, 1)
		l.step()
		l.is(fleet.RolloutStopped, 1, 1)
	})
	t.Run("manual", func(t *testing.T) {
		l := newLab(t, 3, fleet.RolloutRequest{Wave: "1", Pause: "manual"})
		l.step()
		l.end(fleet.StateProven, -1)
		l.step()
		l.is(fleet.RolloutPaused, 1, 1)
		l.act(fleet.ActionResume)
		l.step()
		l.is(fleet.RolloutRunning, 2, 2)
	})
	t.Run("pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, 3, fleet.RolloutRequest{Wave: "1", Pause: "1h"})
			l.step()
			l.end(fleet.StateProven, -1)
			l.step()
			<-time.After(59 * time.Minute)
			l.step()
			l.is(fleet.RolloutPausing, 1, 1)
			<-time.After(time.Minute)
			l.step()
			l.is(fleet.RolloutRunning, 2, 2)
			l.end(fleet.StateProven, -1)
			l.step()
			l.act(fleet.ActionPause)
			<-time.After(2 * time.Hour)
			l.step()
			l.is(fleet.RolloutPaused, 2, 2)
			l.act(fleet.ActionResume)
			l.step()
			l.is(fleet.RolloutDone, 3, 3)
		})
	})
}

func (l *lab) act(action fleet.RolloutAction) {
	l.Helper()
	next, err := l.Change(l.pace, l.members, action, "ada")
	if err != nil {
		l.Error(err)
	}
	l.Record = next
}

// TestRolloutGoesOn ends the controller at each step: the next one has what was kept, and of
// the releases of the last step only a part.
func TestRolloutGoesOn(t *testing.T) {
	for part := range 5 {
		l := newLab(t, 20, fleet.RolloutRequest{Canary: "2", Wave: "5"})
		for range 100 {
			next, released := l.Record.Step("web", l.pace, l.members, 0)
			if len(released) > part {
				released = released[:part]
			}
			l.Record = next
			for i := range l.members {
				if slices.Contains(released, l.members[i].Host) {
					l.members[i].Released = true
				}
			}
			if n := l.released(); l.State != fleet.RolloutDone && n > l.Target {
				t.Fatalf("%d are released, and %d may be", n, l.Target)
			}
			if part > 0 && l.released() == l.Target {
				l.end(fleet.StateProven, -1)
			}
		}
		if part > 0 {
			l.is(fleet.RolloutDone, 5, 20)
		}
	}
}

func TestBadPace(t *testing.T) {
	for field, r := range map[string]fleet.RolloutRequest{
		"canary: ":       {Canary: "0"},
		"wave: ":         {Wave: "many"},
		"wave: \"101%\"": {Wave: "101%"},
		"wave: \"-1\"":   {Wave: "-1"},
		"max_failures: ": {MaxFailures: "5.5%"},
		"pause: ":        {Pause: "soon"},
		"pause: \"-1s\"": {Pause: "-1s"},
	} {
		if _, err := rollout.ParsePace(r); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "rollout: "+field) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
