// Package schedule says when something is due: by cron's five fields or an interval, in a
// time zone, a part of a jitter later on each host, and only inside a window of the day.
package schedule

import (
	"hash/fnv"
	"io"
	"strings"
	"time"
	_ "time/tzdata" // a container of one binary has no zones

	"github.com/robfig/cron/v3"

	"github.com/towline/towline/puller"
)

// Request is a schedule as it is written. Errors of New name its fields.
type Request struct {
	Schedule string // five fields of cron, a descriptor or "@every 30m"; "" for never
	Timezone string // IANA's name; "" for the process's own
	Jitter   string // a Go duration, "" for none
	Window   string // "22:00-06:00", "" for the whole day
}

// Limits of a schedule.
const (
	shortest  = time.Minute
	longest   = 8784 * time.Hour // a year
	maxJitter = 24 * time.Hour
)

// Schedule is a schedule that New has checked. It never changes.
type Schedule struct {
	next   func(after time.Time) time.Time // nil for never
	zone   *time.Location
	jitter time.Duration
	part   uint64 // of the host, see WithHost
	window window
}

// New checks a schedule. The error is ErrInvalidRequest and names the field.
func New(r Request) (Schedule, error) {
	s := Schedule{zone: time.Local}
	var err error
	if r.Timezone != "" {
		if s.zone, err = loadZone(r.Timezone); err != nil {
			return s, err
		}
	}
	if r.Jitter != "" {
		s.jitter, err = time.ParseDuration(r.Jitter)
		switch {
		case err != nil:
			return s, puller.Errorf(puller.ErrInvalidRequest, "jitter: %q is not a duration such as 90s or 15m", puller.Clip(r.Jitter))
		case s.jitter < 0 || s.jitter > maxJitter:
			return s, puller.Errorf(puller.ErrInvalidRequest, "jitter: %s is not between 0s and %s", s.jitter, maxJitter)
		}
	}
	if s.window, err = parseWindow(r.Window); err != nil {
		return s, err
	}
	if r.Schedule != "" {
		s.next, err = s.parse(r.Schedule)
	}
	return s, err
}

// Jitter returns how much later than its schedule a host may be at most.
func (s Schedule) Jitter() time.Duration { return s.jitter }

func loadZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(puller.ClipTo(name, maxZone))
	if err != nil || name == "Local" {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "timezone: %q is not known; use a name of the IANA database, such as Europe/Berlin or UTC", puller.Clip(name))
	}
	return zone, nil
}

const (
	maxZone = 64  // bytes of the name of a time zone
	maxCron = 500 // bytes of a schedule
)

// parser takes what cron(5) takes, and descriptors.
var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// parse returns what finds the next time of a schedule.
func (s Schedule) parse(text string) (func(time.Time) time.Time, error) {
	refuse := func(why string) error {
		return puller.Errorf(puller.ErrInvalidRequest, "schedule: %q %s; write five fields of cron, such as \"0 5 * * *\", a descriptor such as @daily, or an interval such as \"@every 30m\"", puller.Clip(text), why)
	}
	text = strings.TrimSpace(text)
	fields := strings.Fields(text)
	if len(text) > maxCron || len(fields) == 0 {
		return nil, refuse("is no schedule")
	}
	if strings.Contains(fields[0], "=") { // CRON_TZ=, which the parser takes
		return nil, refuse("sets a time zone, for which there is the field timezone")
	}
	for _, f := range fields {
		if !strings.HasPrefix(text, "@") && strings.Trim(f, ",") == "" {
			return nil, refuse("has an empty field")
		}
	}
	parsed, err := parser.Parse(text)
	if err != nil {
		return nil, refuse("is not understood (" + puller.Clip(err.Error()) + ")")
	}
	switch parsed := parsed.(type) {
	case cron.ConstantDelaySchedule:
		every, err := time.ParseDuration(strings.TrimSpace(strings.TrimPrefix(text, "@every")))
		if err != nil || every < shortest || every > longest {
			return nil, puller.Errorf(puller.ErrInvalidRequest, "schedule: %q is not between @every %s and @every %s", puller.Clip(text), shortest, longest)
		}
		// Not from the last time on, so that each host has its own part of the jitter.
		return func(after time.Time) time.Time { return after.Truncate(every).Add(every) }, nil
	case *cron.SpecSchedule:
		next := s.fixed(parsed)
		if everyHour(parsed) {
			// The hours that clocks skip or repeat are hours like others.
			next = func(after time.Time) time.Time { return parsed.Next(after.In(s.zone)) }
		}
		if next(time.Now()).IsZero() {
			return nil, refuse("never comes: there is no such day")
		}
		return next, nil
	}
	return nil, refuse("is not understood")
}

// everyHour reports whether a schedule has times in each hour of its days.
func everyHour(s *cron.SpecSchedule) bool {
	const all = 1<<24 - 1
	return s.Hour&all == all
}

// fixed finds the next time of a schedule with hours of its own. It counts on the clock on
// the wall, as people do: a time that the clock skips comes when it has been skipped, and
// one that the clock repeats comes once.
func (s Schedule) fixed(spec *cron.SpecSchedule) func(time.Time) time.Time {
	return func(after time.Time) time.Time {
		wall := reading(after.In(s.zone), time.UTC)
		for range maxSkipped {
			if wall = spec.Next(wall); wall.IsZero() {
				return wall
			}
			if at := reading(wall, s.zone); at.After(after) {
				return at
			}
		}
		return time.Time{}
	}
}

// maxSkipped is how many times of a schedule a change of clocks can skip: all minutes of
// two days, where a zone has moved over the date line.
const maxSkipped = 2 * 24 * 60

// reading returns the time at which a clock of another zone reads the same: the first one,
// where clocks are set back. Where they skip it, it is as long after the skip begins as t says.
func reading(t time.Time, zone *time.Location) time.Time {
	at := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone)
	// time.Date does not say which one it takes. No zone changes twice in so short a time.
	_, before := at.Add(-12 * time.Hour).Zone()
	first := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.FixedZone("", before)).In(zone)
	if at.Format(time.TimeOnly) == t.Format(time.TimeOnly) && first.Format(time.TimeOnly) != t.Format(time.TimeOnly) {
		return at
	}
	return first
}

// WithHost returns the schedule as a host has it: with its own part of the jitter, which
// is the same at each time and after each start.
func (s Schedule) WithHost(host, name string) Schedule {
	h := fnv.New64a()
	io.WriteString(h, host+"\x00"+name)
	s.part = h.Sum64()
	return s
}

// share returns the host's part of a duration.
func (s Schedule) share(of time.Duration) time.Duration {
	if of <= 0 {
		return 0
	}
	// FNV's low bits are better than its high ones.
	return time.Duration(s.part % uint64(of)).Truncate(time.Second)
}

// Next returns when something is due that was done at a time, with the host's part of the
// jitter, and inside the window. It is zero for never.
func (s Schedule) Next(after time.Time) time.Time {
	if s.next == nil {
		return time.Time{}
	}
	late := s.share(s.jitter)
	at := s.next(after.Add(-late))
	if at.IsZero() {
		return at
	}
	return s.Open(at.Add(late))
}

// Open returns the first time from t on at which the window is open. Where that is a later
// one, hosts are spread by their part of the jitter.
func (s Schedule) Open(t time.Time) time.Time {
	local := t.In(s.zone)
	if s.window.open(local) {
		return t
	}
	minute := s.window.from
	at := time.Date(local.Year(), local.Month(), local.Day(), minute/60, minute%60, 0, 0, s.zone)
	if !at.After(t) {
		at = time.Date(local.Year(), local.Month(), local.Day()+1, minute/60, minute%60, 0, 0, s.zone)
	}
	return at.Add(s.share(min(s.jitter, s.window.length())))
}
