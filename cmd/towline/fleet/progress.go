package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller/fleet"
)

// lineEvery is how often a log gets a line of a set that changes.
const lineEvery = 5 * time.Second

// A progress shows how sets come to their hosts.
type progress interface {
	// take takes in an event.
	take(e fleet.Event)
	// draw shows what is new. It is called now and then.
	draw(now time.Time)
	// end shows what is not shown yet, and what stays.
	end()
}

// newProgress returns what shows sets on out: a picture on a terminal, plain lines elsewhere.
func newProgress(f *command.Flags, out io.Writer) progress {
	switch {
	case f.JSON:
		return jsonLines{render.NewJSON(out)}
	case f.Quiet:
		return silent{}
	}
	if p := render.NewPicture(out); p != nil {
		return &picture{picture: p, state: newState()}
	}
	return &lines{out: out, state: newState(), printed: make(map[string]printed), told: make(map[string]string)}
}

type jsonLines struct{ out *json.Encoder }

func (j jsonLines) take(e fleet.Event) { j.out.Encode(e) }
func (jsonLines) draw(time.Time)       {}
func (jsonLines) end()                 {}

type silent struct{}

func (silent) take(fleet.Event) {}
func (silent) draw(time.Time)   {}
func (silent) end()             {}

// state is what is known of sets.
type state struct {
	sets    map[string]fleet.Set
	members map[string]map[string]fleet.MemberState // by set and host: those that failed or refused
	removed []string                                // sets that were forgotten and not shown so
	changed bool
}

func newState() state {
	return state{sets: make(map[string]fleet.Set), members: make(map[string]map[string]fleet.MemberState)}
}

func (s *state) take(e fleet.Event) {
	s.changed = true
	switch {
	case e.Type == fleet.EventSet && e.Set != nil:
		if s.sets[e.Set.Name].Generation != e.Set.Generation {
			delete(s.members, e.Set.Name)
		}
		s.sets[e.Set.Name] = *e.Set
	case e.Type == fleet.EventRemoved && e.Name != "":
		delete(s.sets, e.Name)
		delete(s.members, e.Name)
		s.removed = append(s.removed, e.Name)
	case e.Type == fleet.EventMember && e.Member != nil:
		if s.members[e.Name] == nil {
			s.members[e.Name] = make(map[string]fleet.MemberState)
		}
		if e.Member.State == fleet.StateFailed || e.Member.State == fleet.StateRefused {
			s.members[e.Name][e.Member.Host] = *e.Member
		} else {
			delete(s.members[e.Name], e.Member.Host)
		}
	}
}

// failures returns the members of a set that failed or refused, by host, each with what it
// says.
func (s *state) failures(set string) (hosts, words []string) {
	for _, host := range slices.Sorted(maps.Keys(s.members[set])) {
		m := s.members[set][host]
		hosts = append(hosts, host)
		words = append(words, strings.TrimSuffix(string(m.State)+": "+reason(m), ": "))
	}
	return hosts, words
}

// lines shows sets in a log, without control characters: a line for each set every lineEvery
// while it changes, and one for each host that fails.
type lines struct {
	out io.Writer
	state
	printed map[string]printed // by set
	told    map[string]string  // by set and host: the failure that was told
}

// printed is the last line of a set.
type printed struct {
	text string
	at   time.Time
}

func (l *lines) draw(now time.Time) {
	if !l.changed {
		return
	}
	l.changed = false
	for _, name := range l.removed {
		l.print(name + ": forgotten")
		delete(l.printed, name)
	}
	l.removed = nil
	for _, name := range slices.Sorted(maps.Keys(l.sets)) {
		hosts, words := l.failures(name)
		for i, host := range hosts {
			if key := name + " " + host; l.told[key] != words[i] {
				l.told[key] = words[i]
				l.print(name + ": " + host + " " + words[i])
			}
		}
		text := summary(l.sets[name])
		last := l.printed[name]
		switch {
		case text == last.text:
		case !last.at.IsZero() && now.Sub(last.at) < lineEvery:
			l.changed = true // it is due later
		default:
			l.print(text)
			l.printed[name] = printed{text, now}
		}
	}
}

func (l *lines) end() {
	for name, p := range l.printed {
		p.at = time.Time{}
		l.printed[name] = p
	}
	l.changed = true
	l.draw(time.Now())
}

func (l *lines) print(text string) { fmt.Fprintln(l.out, render.SafeText(text)) }

// picture shows sets on a terminal: a bar for each, and below it the hosts that failed, as
// far as there is room.
type picture struct {
	picture *render.Picture
	state
}

func (p *picture) draw(time.Time) {
	if p.changed {
		p.changed = false
		p.picture.Draw(p.lines)
	}
}

func (p *picture) end() { p.picture.Finish(p.lines(80, 1<<20)) }

// barColumns is how wide a bar is.
const barColumns = 24

func (p *picture) lines(columns, rows int) (all []render.Line) {
	names := slices.Sorted(maps.Keys(p.sets))
	room := max(0, rows-len(names)) // for failures
	for _, name := range names {
		s := p.sets[name]
		text := summary(s)
		if columns > 2*barColumns {
			text = bar(s) + "  " + text
		}
		text = render.SafeText(text)
		if s.Rollout.Members > 0 && s.Counts[fleet.StateProven] == s.Rollout.Members {
			all = append(all, render.DoneLine("", text))
		} else {
			all = append(all, render.PlainLine(text))
		}
		hosts, words := p.failures(name)
		for i, host := range hosts {
			if room == 0 || room == 1 && i < len(hosts)-1 {
				if room == 1 {
					all, room = append(all, render.PlainLine(fmt.Sprintf("  and %d more", len(hosts)-i))), 0
				}
				break
			}
			all, room = append(all, render.FailedLine("  "+render.SafeText(host)+" ", render.SafeText(words[i]))), room-1
		}
	}
	return all[:min(len(all), rows)]
}

// bar draws which part of a set's hosts has proven it, and which has failed.
func bar(s fleet.Set) string {
	part := func(n int) int {
		if s.Rollout.Members == 0 {
			return 0
		}
		return min(n*barColumns/s.Rollout.Members, barColumns)
	}
	proven, failed := part(s.Counts[fleet.StateProven]), part(s.Counts[fleet.StateFailed]+s.Counts[fleet.StateRefused])
	failed = min(failed, barColumns-proven)
	return "[" + strings.Repeat("=", proven) + strings.Repeat("x", failed) + strings.Repeat(" ", barColumns-proven-failed) + "]"
}
