package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep/schedule"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newSchedule(t testing.TB, r schedule.Request) schedule.Schedule {
	t.Helper()
	s, err := schedule.New(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// times returns when a schedule is due between two times.
func times(s schedule.Schedule, from, to time.Time) (all []time.Time) {
	for at := s.Next(from); !at.IsZero() && at.Before(to) && len(all) < 100_000; at = s.Next(at) {
		all = append(all, at)
	}
	return all
}

// TestMonths has schedules over the months in which the clocks of Berlin change.
func TestMonths(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for name, c := range map[string]struct {
		schedule        string
		march, october  int // times
		onMarch, onOcto []string
	}{
		"day":            {"0 5 * * *", 31, 31, []string{"05:00 CEST"}, []string{"05:00 CET"}},
		"skipped":        {"30 2 * * *", 31, 31, []string{"03:30 CEST"}, []string{"02:30 CEST"}},
		"skipped twice":  {"0,30 2 * * *", 61, 62, []string{"03:00 CEST"}, []string{"02:00 CEST", "02:30 CEST"}},
		"beside":         {"30 2,3 * * *", 61, 62, []string{"03:30 CEST"}, []string{"02:30 CEST", "03:30 CET"}},
		"midnight":       {"@midnight", 31, 31, []string{"00:00 CET"}, []string{"00:00 CEST"}},
		"every hour":     {"0 * * * *", 743, 745, nil, nil},
		"every quarter":  {"*/15 * * * *", 2972, 2980, nil, nil},
		"interval":       {"@every 1h", 743, 745, nil, nil},
		"two hours":      {"0 */2 * * *", 372, 372, nil, nil},
		"sunday":         {"0 2 * * 0", 5, 4, []string{"03:00 CEST"}, []string{"02:00 CEST"}},
		"last of summer": {"15 2 25 10 *", 0, 1, nil, []string{"02:15 CEST"}},
		"descriptor":     {"@daily", 31, 31, []string{"00:00 CET"}, []string{"00:00 CEST"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s := newSchedule(t, schedule.Request{Schedule: c.schedule, Timezone: "Europe/Berlin"})
			on := func(all []time.Time, day int) (shown []string) {
				for _, at := range all {
					if at = at.In(berlin); at.Day() == day {
						shown = append(shown, at.Format("15:04 MST"))
					}
				}
				return shown
			}
			march := times(s, time.Date(2026, 2, 28, 23, 59, 59, 0, berlin), time.Date(2026, 4, 1, 0, 0, 0, 0, berlin))
			october := times(s, time.Date(2026, 9, 30, 23, 59, 59, 0, berlin), time.Date(2026, 11, 1, 0, 0, 0, 0, berlin))
			if len(march) != c.march || len(october) != c.october {
				t.Errorf("%d times in March and %d in October, not %d and %d", len(march), len(october), c.march, c.october)
			}
			if c.onMarch != nil {
				if diff := cmp.Diff(c.onMarch, on(march, 29)); diff != "" {
					t.Errorf("as summer begins: %s", diff)
				}
			}
			if c.onOcto != nil {
				if diff := cmp.Diff(c.onOcto, on(october, 25)); diff != "" {
					t.Errorf("as summer ends: %s", diff)
				}
			}
		})
	}
}

// TestAnyZone asks from any second near a change of clocks: a time comes after it is asked for,
// and none is left out.
func TestAnyZone(t *testing.T) {
	for name, around := range map[string]time.Time{
		"Europe/Berlin":       time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC),
		"America/Sao_Paulo":   time.Date(2018, 11, 4, 2, 0, 0, 0, time.UTC),
		"Australia/Lord_Howe": time.Date(2026, 4, 4, 15, 0, 0, 0, time.UTC),
		"Pacific/Apia":        time.Date(2011, 12, 30, 9, 0, 0, 0, time.UTC),
		"UTC":                 time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC),
	} {
		for _, text := range []string{"0 5 * * *", "30 2 * * *", "*/20 1,2,3 * * *", "0 0 * * *", "*/7 * * * *", "@every 25m"} {
			s := newSchedule(t, schedule.Request{Schedule: text, Timezone: name})
			from, to := around.Add(-30*time.Hour), around.Add(80*time.Hour)
			for at := from; at.Before(to); at = at.Add(10*time.Minute + 7*time.Second) {
				next := s.Next(at)
				if !next.After(at) || next.Sub(at) > 50*time.Hour {
					t.Fatalf("%s in %s: after %s comes %s", text, name, at, next)
				}
			}
		}
	}
}

func TestJitter(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	from := time.Date(2026, 10, 23, 0, 0, 0, 0, berlin)
	for _, text := range []string{"0 5 * * *", "*/10 * * * *", "@every 40m"} {
		r := schedule.Request{Schedule: text, Timezone: "Europe/Berlin"}
		plain := times(newSchedule(t, r), from, from.AddDate(0, 0, 4))
		r.Jitter = "30m"
		late := make(map[time.Duration]bool)
		for n := range 50 {
			var hosts [2][]time.Time
			for i := range hosts {
				s := newSchedule(t, r).WithHost(fmt.Sprint("host-", n), "web")
				hosts[i] = times(s, plain[0].Add(-time.Second), from.AddDate(0, 0, 4))
			}
			if diff := cmp.Diff(hosts[0], hosts[1]); diff != "" {
				t.Errorf("one host has two jitters: %s", diff)
			}
			d := hosts[0][0].Sub(plain[0])
			if d < 0 || d >= 30*time.Minute {
				t.Fatalf("%s: the first time is %s late", text, d)
			}
			late[d] = true
			for i, at := range hosts[0] {
				if off := at.Sub(plain[i]); text == "0 5 * * *" && off != d {
					t.Fatalf("%s: time %d is %s late, and the first one %s", text, i, off, d)
				}
			}
		}
		if len(late) < 35 {
			t.Errorf("%s: 50 hosts have %d times", text, len(late))
		}
	}
}

func TestWindow(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 10, day, hour, minute, 0, 0, berlin) }
	for name, c := range map[string]struct {
		window     string
		from, want time.Time
	}{
		"inside":          {"22:00-06:00", at(10, 23, 5), at(10, 23, 5)},
		"at its begin":    {"22:00-06:00", at(10, 22, 0), at(10, 22, 0)},
		"past midnight":   {"22:00-06:00", at(10, 5, 59), at(10, 5, 59)},
		"at its end":      {"22:00-06:00", at(10, 6, 0), at(10, 22, 0)},
		"by day":          {"22:00-06:00", at(10, 12, 0), at(10, 22, 0)},
		"of the day":      {"09:00-17:30", at(10, 18, 0), at(11, 9, 0)},
		"of the morning":  {"09:00-17:30", at(10, 8, 0), at(10, 9, 0)},
		"over the change": {"03:00-05:00", at(24, 6, 0), at(25, 3, 0)},
		"repeated hour":   {"02:00-02:30", at(25, 1, 0), at(25, 2, 0)},
		"one minute":      {"23:59-00:00", at(10, 0, 0), at(10, 23, 59)},
		"none":            {"", at(10, 12, 0), at(10, 12, 0)},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s := newSchedule(t, schedule.Request{Window: c.window, Timezone: "Europe/Berlin"})
			if got := s.Open(c.from); !got.Equal(c.want) {
				t.Errorf("after %s it opens at %s, not %s", c.from, got.In(berlin), c.want)
			}
		})
	}
	t.Run("schedule", func(t *testing.T) {
		s := newSchedule(t, schedule.Request{Schedule: "0 * * * *", Window: "22:00-06:00", Timezone: "Europe/Berlin", Jitter: "20m"}).WithHost("host", "web")
		all := times(s, at(10, 0, 30), at(12, 0, 0))
		if len(all) < 15 || len(all) > 17 {
			t.Errorf("%d times: %v", len(all), all)
		}
		for _, one := range all {
			if h := one.In(berlin).Hour(); h >= 6 && h < 22 {
				t.Errorf("one is at %s", one.In(berlin))
			}
		}
	})
	t.Run("spread", func(t *testing.T) {
		begins := make(map[time.Time]bool)
		for n := range 20 {
			s := newSchedule(t, schedule.Request{Window: "22:00-06:00", Timezone: "Europe/Berlin", Jitter: "1h"}).WithHost(fmt.Sprint(n), "web")
			open := s.Open(at(10, 12, 0))
			if open.Before(at(10, 22, 0)) || !open.Before(at(10, 23, 0)) {
				t.Errorf("host %d begins at %s", n, open)
			}
			begins[open] = true
		}
		if len(begins) < 15 {
			t.Errorf("20 hosts begin at %d times", len(begins))
		}
	})
}

func TestNever(t *testing.T) {
	if at := newSchedule(t, schedule.Request{Jitter: "1h", Window: "22:00-06:00"}).Next(time.Now()); !at.IsZero() {
		t.Errorf("no schedule comes at %s", at)
	}
}

func TestRefusals(t *testing.T) {
	for field, all := range map[string][]schedule.Request{
		"schedule": {
			{Schedule: "* * 31 2 *"}, {Schedule: "0 0 30 2 *"}, {Schedule: "0 0 31 4,6,9,11 *"}, {Schedule: "often"}, {Schedule: "0 5 * *"}, {Schedule: "0 0 5 * * *"},
			{Schedule: "60 5 * * *"}, {Schedule: ", * * * *"}, {Schedule: "* ,, * * *"}, {Schedule: "@every 1s"}, {Schedule: "@every 59s"}, {Schedule: "@every 9000h"},
			{Schedule: "@every"}, {Schedule: "@every soon"}, {Schedule: "@every -1h"}, {Schedule: "@reboot"}, {Schedule: "TZ=UTC"}, {Schedule: "CRON_TZ=Europe/Berlin 0 5 * * *"},
			{Schedule: "TZ="}, {Schedule: " "}, {Schedule: "*/0 * * * *"}, {Schedule: "5-1 * * * *"}, {Schedule: "\x00 * * * *"}, {Schedule: strings.Repeat("1,", 5000) + "1 * * * *"},
			{Schedule: "*/99999999999999999999 * * * *"}, {Schedule: "1-2-3 * * * *"},
		},
		"timezone": {{Timezone: "Europe/Atlantis"}, {Timezone: "../../etc/passwd"}, {Timezone: "Local"}, {Timezone: "/etc/localtime"}, {Timezone: strings.Repeat("x", 5000)}},
		"jitter":   {{Jitter: "5"}, {Jitter: "-1m"}, {Jitter: "25h"}, {Jitter: "soon"}},
		"window":   {{Window: "22:00-22:00"}, {Window: "00:00-00:00"}, {Window: "22:00"}, {Window: "22-06"}, {Window: "25:00-06:00"}, {Window: "22:00-24:00"}, {Window: "22:00-06:00-07:00"}, {Window: strings.Repeat("2", 5000)}},
	} {
		for _, r := range all {
			begun := time.Now()
			_, err := schedule.New(r)
			if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), field+": ") || len(err.Error()) > 900 {
				t.Errorf("%+v: %v", r, err)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("%+v took %s", r, took)
			}
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, text := range []string{"0 5 * * *", "@daily", "@every 30m", "*/15 1-5 * jan-mar mon", "TZ=UTC 0 5 * * *", "@every -1s", ",,, * * * *"} {
		f.Add(text, "Europe/Berlin", "5m", "22:00-06:00")
	}
	at := time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text, zone, jitter, window string) {
		s, err := schedule.New(schedule.Request{Schedule: text, Timezone: zone, Jitter: jitter, Window: window})
		if err != nil {
			if puller.KindOf(err) != puller.ErrInvalidRequest {
				t.Errorf("%q gives %v", text, err)
			}
			return
		}
		if next := s.WithHost("host", "set").Next(at); strings.TrimSpace(text) != "" && !next.After(at) {
			t.Errorf("%q comes at %s after %s", text, next, at)
		}
	})
}
