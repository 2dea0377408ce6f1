package sets_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller/keep"
)

// TestClockChanges lives through the changes of clocks of a year: each morning has one refresh.
func TestClockChanges(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]time.Time{
		"march":   time.Date(2000, 3, 23, 12, 0, 0, 0, berlin),
		"october": time.Date(2000, 10, 26, 12, 0, 0, 0, berlin),
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(h *host) {
				h.close()
				h.dir = ""
				<-time.After(time.Until(begin))
				h.open()
				early, night := images(web), images(db)
				early.Schedule, early.Timezone, early.Jitter = "30 2 * * *", "Europe/Berlin", "10m"
				night.Schedule, night.Timezone, night.Window = "0 12 * * *", "Europe/Berlin", "22:00-06:00"
				h.put("early", early)
				h.put("night", night)
				<-time.After(time.Until(begin.AddDate(0, 0, 7)))
				synctest.Wait()
				days := make(map[string]int)
				for i, at := range h.service.begun {
					at, which := at.In(berlin), "early"
					if h.service.asked[i].Images[0].Image == db {
						which = "night"
					}
					days[which+at.Format(time.DateOnly)]++
					switch clock := at.Format("15:04"); {
					case i == 0: // when it was put
					case which == "night" && clock != "22:00", which == "early" && (clock < "02:30" || clock > "02:40") && (clock < "03:30" || clock > "03:40" || at.Format("01-02") != "03-26"):
						h.Errorf("%s begins at %s", which, at)
					}
				}
				for _, which := range []string{"early", "night"} {
					for n := 1; n < 7; n++ {
						if day := which + begin.AddDate(0, 0, n).Format(time.DateOnly); days[day] != 1 {
							h.Errorf("%s has %d refreshes", day, days[day])
						}
					}
				}
			})
		})
	}
}

func TestMissed(t *testing.T) {
	withHost(t, func(h *host) {
		r := images(web)
		r.Schedule, r.Timezone = "0 * * * *", "UTC"
		h.put("app", r)
		h.refreshes(1)
		h.crash(30 * time.Minute)
		<-time.After(time.Minute)
		h.refreshes(1) // none was missed
		h.crash(5 * time.Hour)
		h.refreshes(2) // five were, and they are one
		<-time.After(time.Minute)
		h.refreshes(2)
		s, err := h.Set("app")
		if want := time.Date(2000, 1, 1, 6, 0, 0, 0, time.UTC); err != nil || !s.NextRun.Equal(want) {
			h.Errorf("the next one is at %s, not %s: %v", s.NextRun, want, err)
		}
	})
}

func TestMissedOutsideItsWindow(t *testing.T) {
	withHost(t, func(h *host) {
		r := images(web)
		r.Schedule, r.Timezone, r.Window = "0 23 * * *", "UTC", "22:00-06:00"
		h.put("app", r) // at midnight
		h.refreshes(1)
		h.crash(36 * time.Hour)
		<-time.After(time.Hour)
		h.refreshes(1)
		h.service.set(func() { delete(h.service.here, web) })
		<-time.After(time.Hour)
		h.refreshes(1) // it waits for the window too
		h.state("app", web, keep.SetMissing, "removed")
		if _, err := h.RefreshSet("app"); err != nil { // a call does not wait
			h.Error(err)
		}
		h.refreshes(2)
		<-time.After(9 * time.Hour)
		synctest.Wait()
		if last := h.service.begun[len(h.service.begun)-1]; last.Hour() != 23 && last.Hour() != 22 {
			h.Errorf("the last one began at %s", last)
		}
	})
}

func TestRestartWhileItGoesOn(t *testing.T) {
	withHost(t, func(h *host) {
		gate := make(chan struct{})
		h.service.gate = gate
		s := h.put("app", images(web))
		h.crash(time.Minute)
		if got, err := h.Set("app"); err != nil || got.Job != s.Job || !got.Refreshes {
			h.Errorf("it is %+v, %v", got, err)
		}
		joined, err := h.RefreshSet("app")
		if err != nil || joined.ID != s.Job {
			h.Errorf("a refresh is %s, not %s: %v", joined.ID, s.Job, err)
		}
		close(gate)
		h.state("app", web, keep.SetPresent, "")
		h.refreshes(1)
	})
}

func TestRestartWithMissingImages(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("app", images(web, db))
		h.refreshes(1)
		h.service.set(func() { delete(h.service.here, db) })
		h.crash(time.Hour)
		h.refreshes(2)
		h.state("app", web, keep.SetPresent, "")
		h.state("app", db, keep.SetPresent, "")
		if asked := h.service.asked[1]; len(asked.Images) != 1 || asked.Images[0].Image != db {
			h.Errorf("it asks for %+v", asked)
		}
	})
}
