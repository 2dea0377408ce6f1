package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// setEvent tells of a set with 100 hosts, of which some have proven it.
func setEvent(name string, generation uint64, proven, failed int) fleet.Event {
	return fleet.Event{Type: fleet.EventSet, Set: &fleet.Set{
		Name: name, Generation: generation, Rollout: fleet.Rollout{State: fleet.RolloutRunning, Released: 100, Members: 100},
		Counts: map[fleet.State]int{fleet.StateProven: proven, fleet.StateFailed: failed, fleet.StateWaiting: 100 - proven - failed},
	}}
}

func failedEvent(name, host string) fleet.Event {
	return fleet.Event{Type: fleet.EventMember, Name: name, Member: &fleet.MemberState{Host: host, State: fleet.StateFailed, Kind: puller.ErrNoSpace, Error: "full\x1b[2J\n"}}
}

func provenEvent(name, host string) fleet.Event {
	return fleet.Event{Type: fleet.EventMember, Name: name, Member: &fleet.MemberState{Host: host, State: fleet.StateProven}}
}

func TestLines(t *testing.T) {
	var out strings.Builder
	l := &lines{out: &out, state: newState(), printed: make(map[string]printed), told: make(map[string]string)}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 41 { // four seconds
		l.take(setEvent("web", 1, i, 0))
		l.draw(now.Add(time.Duration(i) * 100 * time.Millisecond))
	}
	l.take(failedEvent("web", "h1"))
	l.take(failedEvent("web", "h1")) // again
	l.draw(now.Add(4500 * time.Millisecond))
	l.draw(now.Add(6 * time.Second)) // nothing has come, but a line is due
	l.take(provenEvent("web", "h1"))
	l.take(setEvent("web", 1, 100, 0))
	l.draw(now.Add(7 * time.Second))
	l.end()
	l.take(fleet.Event{Type: fleet.EventRemoved, Name: "web"})
	l.end()
	want := `web: generation 1, 100 waiting, rollout running
web: h1 failed: no_space: full�[2J 
web: generation 1, 40 proven, 60 waiting, rollout running
web: generation 1, 100 proven, rollout running
web: forgotten
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestPicture(t *testing.T) {
	var out strings.Builder
	p := &picture{picture: render.NewPictureOf(&out, render.Palette{}, func() (int, int, error) { return 100, 8, nil }), state: newState()}
	p.take(setEvent("api", 3, 100, 0))
	p.take(setEvent("web", 1, 50, 25))
	for i := range 25 {
		p.take(failedEvent("web", fmt.Sprintf("h%02d", i)))
	}
	p.draw(time.Time{})
	want := `[========================]  api: generation 3, 100 proven, rollout running
[============xxxxxx      ]  web: generation 1, 50 proven, 25 waiting, 25 failed, rollout running
  h00 failed: no_space: full�[2J 
  h01 failed: no_space: full�[2J 
  h02 failed: no_space: full�[2J 
  and 22 more
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	p.draw(time.Time{}) // nothing is new
	if out.String() != want {
		t.Error("it is drawn again")
	}
	p.take(setEvent("web", 2, 0, 0)) // its failures are those of another generation
	p.draw(time.Time{})
	if now := out.String()[len(want):]; strings.Contains(now, "h00") || !strings.Contains(now, "generation 2") {
		t.Error(now)
	}
	p.end()
}

func TestReason(t *testing.T) {
	for want, m := range map[string]fleet.MemberState{
		"":                          {State: fleet.StateProven},
		"its wave has not come":     {State: fleet.StateWaiting},
		"the window opens at 22:00": {State: fleet.StateWaiting, Error: "the window opens at 22:00"},
		"was proven":                {State: fleet.StateAway, Last: fleet.StateProven},
		"was failed: denied: no":    {State: fleet.StateAway, Last: fleet.StateFailed, Kind: puller.ErrDenied, Error: "no"},
		"1 of 2; a: too old":        {State: fleet.StateFailed, Error: "1 of 2", Images: []fleet.ImageState{{Image: "a", Error: "too old"}}},
		"no_space: a: full":         {State: fleet.StateFailed, Kind: puller.ErrNoSpace, Error: "a: full", Images: []fleet.ImageState{{Image: "a", Error: "full"}}},
	} {
		if got := reason(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
