package sets_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
)

// learns checks which images are in the learned set.
func (h *host) learns(want ...string) {
	h.Helper()
	synctest.Wait()
	s, err := h.Set(keep.LearnedSet)
	if err != nil {
		h.Fatal(err)
	}
	var got []string
	for _, i := range s.Images {
		got = append(got, i.Image)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") || s.Source != keep.SetFromUsage {
		h.Errorf("it has %q, not %q", got, want)
	}
}

func TestLearned(t *testing.T) {
	withHost(t, func(h *host) {
		h.close()
		h.service.here = map[string]string{web: digest("web 1"), db: digest("db 1")}
		old := "registry.test/old:v1"
		h.service.here[old] = digest("old")
		h.service.containers = []engines.ContainerState{
			{ID: "1", Image: web, Started: true, Running: true, Created: time.Now().Add(-1000 * time.Hour)},
			{ID: "2", Image: old, Started: true, Created: time.Now().Add(-1000 * time.Hour)},
			{ID: "3", Image: "registry.test/never:v1", Created: time.Now()},
			{ID: "4", Image: digest("an ID"), Started: true, Running: true, Created: time.Now()},
			{ID: "5", Image: "registry.test/gone:v1", Started: true, Running: true, Created: time.Now()},
			{ID: "6", Image: "Not A Name", Started: true, Running: true, Created: time.Now()},
		}
		h.learn.For, h.learn.Schedule = 168*time.Hour, "@daily"
		h.open()
		h.learns()
		<-time.After(2 * time.Minute)
		h.learns(web)
		h.service.start <- engines.Event{Type: engines.EventContainer, Action: "start", Image: db, Time: time.Now()}
		h.service.start <- engines.Event{Type: engines.EventContainer, Action: "die", Image: old, Time: time.Now()}
		<-time.After(time.Minute)
		h.learns(db, web)
		h.refreshes(0) // they are there
		if p := h.Protections("", []string{db}); len(p) != 1 || p[0].Name != keep.LearnedSet || !p[0].Protects {
			h.Errorf("%+v", p)
		}
		_, putErr := h.PutSet(keep.LearnedSet, images(web))
		_, deleteErr := h.DeleteSet(keep.LearnedSet)
		if puller.KindOf(putErr) != puller.ErrInvalidRequest || puller.KindOf(deleteErr) != puller.ErrConflict {
			h.Errorf("a call that changes it gives %v, %v", putErr, deleteErr)
		}

		h.service.set(func() { h.service.containers = nil })
		h.crash(time.Minute)
		h.learns(db, web)
		<-time.After(25 * time.Hour)
		h.refreshes(1) // by its schedule
		h.service.set(func() { delete(h.service.here, web) })
		<-time.After(2 * time.Minute)
		h.state(keep.LearnedSet, web, keep.SetPresent, "")
		<-time.After(168 * time.Hour)
		h.learns()
	})
}

// Thousands of containers make a set that is no larger than a set may be, of those that were
// started last.
func TestLearnedFromMany(t *testing.T) {
	withHost(t, func(h *host) {
		h.close()
		h.service.here = make(map[string]string)
		for n := range 3000 {
			name := fmt.Sprintf("registry.test/many/%d:v1", n%1500)
			h.service.here[name] = digest(name)
			h.service.containers = append(h.service.containers, engines.ContainerState{ID: strconv.Itoa(n), Image: name, Started: true, Running: true, Created: time.Now()})
		}
		h.learn.For = 168 * time.Hour
		h.open()
		<-time.After(2 * time.Minute)
		s, err := h.Set(keep.LearnedSet)
		if err != nil || len(s.Images) == 0 || len(s.Images) > 500 {
			h.Fatalf("it has %d images: %v", len(s.Images), err)
		}
	})
}

func TestLearnedSchedule(t *testing.T) {
	withHost(t, func(h *host) {
		h.close()
		h.learn.For, h.learn.Schedule = time.Hour, "0 0 31 2 *"
		if _, err := h.tryOpen(); err == nil || !strings.HasPrefix(err.Error(), "keep.learn_schedule: ") {
			h.Errorf("it gives %v", err)
		}
		h.learn.For = 0
		h.open()
		if _, err := h.Set(keep.LearnedSet); puller.KindOf(err) != puller.ErrNotFound {
			h.Errorf("without keep.learn: %v", err)
		}
	})
}
