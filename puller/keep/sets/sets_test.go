package sets_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

func TestPut(t *testing.T) {
	withHost(t, func(h *host) {
		gate := make(chan struct{})
		h.service.gate = gate
		begin := time.Now()
		r := images("registry.test/web:v1", db, db)
		r.Schedule, r.Timezone, r.Caller = "0 5 * * *", "UTC", "token:ci"
		got := h.put("app", r)
		five := time.Date(2000, 1, 1, 5, 0, 0, 0, time.UTC)
		want := keep.Set{
			Name: "app", Source: keep.SetFromAPI, Schedule: "0 5 * * *", Timezone: "UTC", Policy: puller.PolicyNewer, Protect: true, Priority: puller.PriorityLow,
			ChangedAt: begin.UTC(), LastRun: begin.UTC(), NextRun: five, Job: "job-0", Refreshes: true, Counts: map[keep.SetState]int{keep.SetPulling: 2},
			Images: []keep.SetImage{
				{Image: web, State: keep.SetPulling, NextRun: five, Job: "job-1"}, {Image: db, State: keep.SetPulling, NextRun: five, Job: "job-2"},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			h.Errorf("-want +got:\n%s", diff)
		}
		if asked := h.service.asked[0]; asked.Caller != "token:ci" || asked.Policy != puller.PolicyNewer || asked.Priority != puller.PriorityLow || len(asked.Images) != 2 {
			h.Errorf("it asks for %+v", asked)
		}
		close(gate)
		h.refreshes(1)
		if i := h.state("app", web, keep.SetPresent, ""); i.Digest != digest("web 1") || i.Job != "job-1" || i.CheckedAt.IsZero() {
			h.Errorf("it is %+v", i)
		}
		list, faults := h.Sets.Sets()
		if len(list) != 1 || list[0].Images != nil || list[0].Counts[keep.SetPresent] != 2 || list[0].Refreshes || len(faults) > 0 {
			h.Errorf("the list is %+v, %v", list, faults)
		}
		if all, err := h.metrics.Gather(); err != nil || len(all) != 2 || len(all[0].Metric) != len(keep.SetStates) || all[1].GetName() != "towline_sets" || all[1].Metric[0].GetGauge().GetValue() != 1 {
			h.Errorf("the metrics are %v, %v", all, err)
		}
	})
}

func TestReplace(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("app", images(web))
		h.refreshes(1)
		off := false
		r := images(db, web)
		r.Protect = &off
		h.put("app", r)
		h.refreshes(2)
		h.state("app", web, keep.SetPresent, "")
		if p := h.Protections("", []string{db}); len(p) != 1 || p[0].Name != "app" || p[0].Protects {
			h.Errorf("%+v", p)
		}
		h.put("app", images(db))
		if p := h.Protections("", []string{web}); len(p) > 0 {
			h.Errorf("an image that the set no longer has is in %+v", p)
		}
		if p := h.Protections("", []string{db, "registry.test/db@" + digest("db 1")}); len(p) != 1 || !p[0].Protects {
			h.Errorf("%+v", p)
		}
	})
}

func TestDelete(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("app", images(web))
		h.refreshes(1)
		if s, err := h.DeleteSet("app"); err != nil || s.Name != "app" {
			h.Errorf("%+v, %v", s, err)
		}
		if len(h.service.here) != 1 {
			h.Error("an image was removed")
		}
		_, getErr := h.Set("app")
		_, deleteErr := h.DeleteSet("app")
		_, refreshErr := h.RefreshSet("app")
		for _, err := range []error{getErr, deleteErr, refreshErr} {
			if puller.KindOf(err) != puller.ErrNotFound {
				h.Errorf("of a set that is gone: %v", err)
			}
		}
		h.crash(0)
		if list, _ := h.Sets.Sets(); len(list) > 0 {
			h.Errorf("it is back: %+v", list)
		}
	})
}

func TestJoin(t *testing.T) {
	withHost(t, func(h *host) {
		gate := make(chan struct{})
		h.service.gate = gate
		r := images(web)
		r.Schedule = "@every 10m"
		first := h.put("app", r)
		<-time.After(time.Hour) // six times pass while it goes on
		joined, err := h.RefreshSet("app")
		if err != nil || joined.ID != first.Job {
			h.Errorf("it is %s, not %s: %v", joined.ID, first.Job, err)
		}
		h.refreshes(1)
		h.service.set(func() { h.service.gate = nil })
		close(gate)
		synctest.Wait()
		next, err := h.RefreshSet("app")
		if err != nil || next.ID == first.Job {
			h.Errorf("it is %s: %v", next.ID, err)
		}
		h.refreshes(2)
		<-time.After(10*time.Minute + time.Second)
		h.refreshes(3)
	})
}

func TestRemovedImage(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("app", images(web, db))
		h.refreshes(1)
		<-time.After(30 * time.Minute)
		h.refreshes(1)
		gate := make(chan struct{})
		h.service.set(func() {
			delete(h.service.here, web)
			h.service.gate = gate
		})
		<-time.After(61 * time.Second)
		h.refreshes(2)
		if asked := h.service.asked[1]; len(asked.Images) != 1 || asked.Images[0].Image != web {
			h.Errorf("it asks for %+v", asked)
		}
		h.state("app", web, keep.SetPulling, "removed")
		h.state("app", db, keep.SetPresent, "")
		if !strings.Contains(h.log.String(), "an image of a set is pulled again") {
			h.Errorf("the log is %s", h.log)
		}
		close(gate)
		h.service.set(func() { h.service.gate = nil })
		h.state("app", web, keep.SetPresent, "")
		// Somebody removes it all the time.
		begin := time.Now()
		for time.Since(begin) < time.Hour {
			h.service.set(func() { delete(h.service.here, web) })
			<-time.After(10 * time.Second)
		}
		if n := len(h.service.asked) - 2; n < 9 || n > 13 {
			h.Errorf("within an hour it was pulled %d times", n)
		}
	})
}

func TestFailure(t *testing.T) {
	withHost(t, func(h *host) {
		h.service.fail = puller.Errorf(puller.ErrRegistryUnavailable, "the registry is away")
		h.put("app", images(web, db))
		h.refreshes(1)
		i := h.state("app", web, keep.SetFailed, "the registry is away")
		if want := time.Now().Add(5 * time.Minute); !i.NextRun.Equal(want) {
			h.Errorf("it is pulled next at %s, not %s", i.NextRun, want)
		}
		h.service.set(func() { h.service.here[db] = digest("db old") })
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if n := len(h.service.asked); n < 24 || n > 30 {
			h.Errorf("within a day it was tried %d times", n)
		}
		h.state("app", web, keep.SetFailed, "away")
		h.service.set(func() { h.service.fail = nil })
		<-time.After(time.Hour + time.Minute)
		h.state("app", web, keep.SetPresent, "")

		h.service.set(func() { h.service.fail = puller.Errorf(puller.ErrDenied, "no access") })
		if _, err := h.RefreshSet("app"); err != nil {
			h.Fatal(err)
		}
		h.state("app", web, keep.SetStale, "no access")
		n := len(h.service.asked)
		<-time.After(24 * time.Hour) // it will fail again, and the image is there
		h.refreshes(n)
		h.state("app", web, keep.SetStale, "no access")
	})
}

func TestMovedName(t *testing.T) {
	withHost(t, func(h *host) {
		missing := images(db)
		missing.Policy = puller.PolicyMissing
		h.put("data", missing)
		h.put("app", images(web))
		h.refreshes(2)
		<-time.After(10 * time.Minute)
		gate := make(chan struct{})
		h.service.set(func() {
			h.service.here[web], h.service.here[db] = digest("another"), digest("another")
			h.service.gate = gate
		})
		<-time.After(time.Minute)
		h.refreshes(3)
		h.state("data", db, keep.SetPresent, "")
		h.state("app", web, keep.SetPulling, "another image")
		close(gate)
		h.state("app", web, keep.SetPresent, "")
	})
}

func TestRefusedRefresh(t *testing.T) {
	withHost(t, func(h *host) {
		h.service.refuse = puller.Overloaded("too many jobs")
		s := h.put("app", images(web))
		if !strings.Contains(s.Error, "too many jobs") || s.Refreshes {
			h.Errorf("it is %+v", s)
		}
		if _, err := h.RefreshSet("app"); puller.KindOf(err) != puller.ErrOverloaded {
			h.Errorf("a refresh gives %v", err)
		}
		<-time.After(10 * time.Minute)
		h.service.set(func() { h.service.refuse = nil })
		<-time.After(2 * time.Minute)
		h.state("app", web, keep.SetPresent, "")
		if s, err := h.Set("app"); err != nil || s.Error != "" {
			h.Errorf("it is %+v, %v", s, err)
		}
	})
}

func TestEngineAway(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("app", images(web))
		h.refreshes(1)
		<-time.After(5 * time.Minute)
		h.service.set(func() { h.service.mute = puller.Errorf(puller.ErrEngineUnavailable, "no engine") })
		<-time.After(time.Hour)
		h.refreshes(1)
		h.state("app", web, keep.SetPresent, "")
		if n := strings.Count(h.log.String(), "no engine"); n != 1 {
			h.Errorf("it is logged %d times: %s", n, h.log)
		}
	})
}

// TestCost counts what the engine is asked while nothing changes.
func TestCost(t *testing.T) {
	withHost(t, func(h *host) {
		var names []string
		for i := range 1000 {
			name := fmt.Sprintf("registry.test/app-%d:v1", i)
			names = append(names, name)
			h.service.remote[name] = digest(name)
		}
		h.put("app", images(names...))
		<-time.After(2 * time.Minute)
		h.service.set(func() { h.service.looks = 0 })
		<-time.After(time.Hour)
		if h.service.looks > 0 {
			h.Errorf("%d images were inspected", h.service.looks)
		}
	})
}

func TestBadRequests(t *testing.T) {
	withHost(t, func(h *host) {
		with := func(change func(*keep.SetRequest)) keep.SetRequest {
			r := images(web)
			change(&r)
			return r
		}
		many := make([]string, 5000)
		for i := range many {
			many[i] = fmt.Sprint("registry.test/", i)
		}
		for field, r := range map[string]keep.SetRequest{
			"schedule: ":         with(func(r *keep.SetRequest) { r.Schedule = "0 0 31 2 *" }),
			"timezone: ":         with(func(r *keep.SetRequest) { r.Timezone = "Europe/Atlantis" }),
			"jitter: ":           with(func(r *keep.SetRequest) { r.Jitter = "soon" }),
			"window: ":           with(func(r *keep.SetRequest) { r.Window = "22:00-22:00" }),
			"policy: ":           with(func(r *keep.SetRequest) { r.Policy = puller.PolicyAlways }),
			"images: missing":    {},
			"images: 5000":       images(many...),
			"images[1]: image: ": images(web, "No"),
			"images[0]: lease: ": {Images: puller.Images{{Image: web, Lease: "1h"}}},
		} {
			if _, err := h.PutSet("app", r); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), field) {
				h.Errorf("%s: %v", field, err)
			}
		}
		for _, name := range []string{"", "App", "learned", strings.Repeat("a", 64)} {
			if _, err := h.PutSet(name, images(web)); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "name: ") {
				h.Errorf("%q: %v", name, err)
			}
		}
		h.store.Fail(errors.New("the disk is broken"))
		if _, err := h.PutSet("app", images(web)); err == nil {
			h.Error("a set that is not on disk is accepted")
		}
		h.store.Fail(nil)
		if list, _ := h.Sets.Sets(); len(list) > 0 {
			h.Errorf("something is kept: %+v", list)
		}
		h.refreshes(0)
	})
}

func TestLimits(t *testing.T) {
	withHost(t, func(h *host) {
		h.service.refuse = errors.New("not now")
		big := make([]string, 1000)
		for i := range big {
			big[i] = fmt.Sprintf("registry.test/app-%d:v1", i)
		}
		for i := range 5 {
			h.put(fmt.Sprint("big-", i), images(big...))
		}
		if _, err := h.PutSet("more", images(web)); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "5000") {
			h.Errorf("one more image gives %v", err)
		}
		h.put("big-0", images(web)) // in the place of one
		for i := range keep.MaxSets - 5 {
			h.put(fmt.Sprint("small-", i), images(web))
		}
		if _, err := h.PutSet("more", images(web)); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "500") {
			h.Errorf("one more set gives %v", err)
		}
	})
}

// An image that somebody else removes is told to be missing, and to be there again once it was
// pulled.
func TestRemovalIsTold(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("app", images(web, db))
		synctest.Wait()
		<-time.After(10 * time.Minute)
		h.service.set(func() {
			delete(h.service.here, web)
			h.service.fail = puller.Errorf(puller.ErrRegistryUnavailable, "the registry is away")
		})
		<-time.After(3 * time.Minute) // it is looked at, and a pull fails
		h.service.set(func() { h.service.fail = nil })
		<-time.After(time.Hour)
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		for i := range h.told {
			if (h.told[i].Job != "") != (h.told[i].Action == puller.ImageRestored) {
				t.Errorf("the job is %q of %s", h.told[i].Job, h.told[i].Action)
			}
			h.told[i].Job = ""
		}
		want := []puller.ImageChange{
			{Action: puller.ImageMissing, Names: []string{web}, Digest: digest("web 1"), Set: "app"},
			{Action: puller.ImageRestored, ID: digest("web 1"), Names: []string{web}, Digest: digest("web 1"), Set: "app"},
		}
		if diff := cmp.Diff(want, h.told); diff != "" {
			t.Error(diff)
		}
	})
}

// What Towline itself has collected, of a set that does not protect, is not pulled again at
// once, but with the next refresh.
func TestCollected(t *testing.T) {
	for _, protects := range []bool{false, true} {
		t.Run(fmt.Sprint("protects ", protects), func(t *testing.T) {
			withHost(t, func(h *host) {
				r := images(web, db)
				r.Protect, r.Schedule = &protects, "@every 24h"
				h.put("app", r)
				h.refreshes(1)
				<-time.After(10*time.Minute + 30*time.Second) // between two looks
				h.mu.Lock()
				h.collected = map[string]time.Time{web: time.Now()}
				h.mu.Unlock()
				h.service.set(func() { delete(h.service.here, web) })
				<-time.After(2 * time.Hour)
				if protects {
					h.state("app", web, keep.SetPresent, "")
					return
				}
				h.state("app", web, keep.SetMissing, "a collection has removed it")
				h.refreshes(1)
				<-time.After(24 * time.Hour)
				h.state("app", web, keep.SetPresent, "")
				h.refreshes(2)
			})
		})
	}
}
