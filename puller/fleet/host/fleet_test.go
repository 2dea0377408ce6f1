package host_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/host"
	"github.com/towline/towline/puller/keep"
)

func TestFleet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	hosts := r.hosts(3)
	r.live(c, 3)
	s, err := r.put(c, "web", images(web, db))
	if err != nil || s.Generation != 1 || s.Counts[fleet.StateProven] != 3 || s.Rollout.State != fleet.RolloutDone {
		t.Fatalf("%+v, %v", s, err)
	}
	want := fleet.Image{Image: web, Digest: digest("web 1"), Manifests: map[string]string{"linux/amd64": digest(digest("web 1") + "linux/amd64")}}
	if len(s.Images) != 2 || s.Images[0].Digest != want.Digest || s.Images[0].Manifests["linux/amd64"] != want.Manifests["linux/amd64"] {
		t.Errorf("it is pinned to %+v", s.Images)
	}
	for _, h := range hosts {
		h.engine.set(func() {
			got := h.sets["fleet.web"]
			if len(got.Images) != 2 || got.Images[0].Image != web+"@"+digest("web 1") || got.Policy != puller.PolicyMissing || !*got.Protect {
				t.Errorf("the host keeps %+v", got)
			}
			if h.here[web] != digest("web 1") || !slices.Contains(h.tags, db) {
				t.Errorf("the names are %v", h.here)
			}
		})
		r.until("it knows its group", func() bool {
			g, ok := h.options.Groups.Group("registry.test/web", digest("web 1"))
			return ok && len(g.Members) == 3 && len(g.Key) == 32 && g.Generation == 1
		})
		if _, ok := h.options.Groups.Group("registry.test/other", digest("web 1")); ok {
			t.Error("there is a group for an image of no set")
		}
		if _, ok := h.options.Groups.Keyed("web", 2, "registry.test/web", digest("web 1")); ok {
			t.Error("there is a group for a generation that there is not")
		}
	}
	// A job that goes on after a restart begins before the host has joined.
	o := hosts[0].options
	if g, ok := host.OpenGroups("ci", o.Host, o.Records, o.Log).Group("registry.test/web", digest("web 1")); !ok || len(g.Members) != 3 || g.Self != o.Host {
		t.Errorf("after a restart the group is %+v", g)
	}
	for _, other := range []*host.Groups{host.OpenGroups("ci2", o.Host, o.Records, o.Log), host.OpenGroups("ci", "another", o.Records, o.Log)} {
		if g, ok := other.Group("registry.test/web", digest("web 1")); ok {
			t.Errorf("in another fleet, or as another host, the group is %+v", g)
		}
	}
	// A tag that moves is for a new generation.
	r.registry.set(func() { r.registry.tags[web] = digest("web 2") })
	if s, err = r.put(c, "web", images(web)); err != nil || s.Generation != 2 || s.Members[0].Digest != digest("web 2") {
		t.Errorf("%+v, %v", s, err)
	}
	was, err := c.DeleteSet(context.Background(), "web")
	if err != nil || was.Generation != 2 {
		t.Errorf("%+v, %v", was, err)
	}
	for _, h := range hosts {
		r.until("the set is forgotten, and its images stay", func() (ok bool) {
			h.engine.set(func() { ok = len(h.sets) == 0 && h.here[web] == digest("web 2") })
			_, known := host.OpenGroups("ci", h.options.Host, h.options.Records, h.options.Log).Group("registry.test/web", digest("web 2"))
			ok = ok && !known
			return ok
		})
	}
	if _, err := c.DeleteSet(context.Background(), "web"); puller.KindOf(err) != puller.ErrNotFound {
		t.Error(err)
	}
	// A set of the same name goes on with the generations.
	if s, err = r.put(c, "web", images(web)); err != nil || s.Generation <= 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Two sets pin one tag to different digests. The first by name has the tag.
func TestTagOfTwoSets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	h := r.hosts(1)[0]
	r.live(c, 1)
	for n, name := range []string{"a", "b"} {
		r.registry.set(func() { r.registry.tags[web] = digest(fmt.Sprint("web ", n+1)) })
		if s, err := r.put(c, name, images(web)); err != nil || s.Counts[fleet.StateProven] != 1 || s.Members[0].Digest != digest(fmt.Sprint("web ", n+1)) {
			t.Errorf("%+v, %v", s, err)
		}
	}
	h.engine.set(func() {
		if diff := cmp.Diff([]string{web}, h.tags); diff != "" || h.here[web] != digest("web 1") {
			t.Errorf("the name is at %s: %s", h.here[web], diff)
		}
	})
	if _, err := c.DeleteSet(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	if s, err := r.put(c, "b", images(web, db)); err != nil || s.Counts[fleet.StateProven] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	r.until("the other set has the name", func() (ok bool) {
		h.engine.set(func() { ok = h.here[web] == digest("web 2") })
		return ok
	})
}

func TestLabels(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	r.host("build-1")
	r.host("render-1", func(i *fleet.Identity) { i.Labels, i.Zone = map[string]string{"role": "render"}, "b" })
	r.live(c, 2)
	for name, want := range map[string]struct {
		hosts  map[string]string
		member string
	}{
		"label": {map[string]string{"role": "render"}, "render-1"}, "host": {map[string]string{"host": "build-1"}, "build-1"}, "zone": {map[string]string{"zone": "b"}, "render-1"},
	} {
		s := images(web)
		s.Hosts = want.hosts
		if got, err := r.put(c, name, s); err != nil || len(got.Members) != 1 || got.Members[0].Host != want.member {
			t.Errorf("%s: %+v, %v", name, got.Members, err)
		}
	}
	s := images(web)
	s.Hosts = map[string]string{"role": "nobody"}
	if _, err := r.put(c, "none", s); puller.KindOf(err) != puller.ErrNotFound {
		t.Errorf("a wait for nobody gives %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	hosts := r.hosts(3)
	hosts[1].engine.set(func() { hosts[1].forbid = puller.Errorf(puller.ErrForbidden, "rules.pull.deny: web is denied") })
	hosts[2].engine.set(func() { hosts[2].fail["registry.test/web"] = puller.Errorf(puller.ErrNoSpace, "the disk is full") })
	r.live(c, 3)
	s, err := r.put(c, "web", images(web, db))
	if puller.KindOf(err) != puller.ErrForbidden || !strings.Contains(err.Error(), "host-1 (refused: rules.pull.deny") || !strings.Contains(err.Error(), "host-2 (failed: the disk is full") {
		t.Errorf("%v", err)
	}
	if s.Counts[fleet.StateProven] != 1 || s.Counts[fleet.StateRefused] != 1 || s.Counts[fleet.StateFailed] != 1 {
		t.Errorf("%+v", s.Counts)
	}
	if m := s.Members[2]; m.Kind != puller.ErrNoSpace || len(m.Images) != 1 || m.Images[0].Image != web {
		t.Errorf("%+v", m)
	}
}

// TestProof has a host whose jobs prove another digest than the fleet's.
func TestProof(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	h := r.hosts(1)[0]
	h.engine.set(func() { h.wrong = digest("another") })
	r.live(c, 1)
	set, err := c.PutSet(context.Background(), "web", images(web))
	if err != nil {
		t.Fatal(err)
	}
	r.until("its job has ended", func() (ok bool) {
		h.engine.set(func() { ok = h.here[web+"@"+digest("web 1")] != "" })
		return ok
	})
	s := r.is(c, "web", map[fleet.State]int{fleet.StatePulling: 1})
	if s.Generation != set.Generation {
		t.Errorf("%+v", s)
	}
}

// A host that looks and reports once in hours still says at once what a job has brought.
func TestJobEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c, h := r.one()
	h.stop()
	gate := make(chan struct{})
	h.engine.set(func() { h.gate = gate })
	h.options.Every = 24 * time.Hour
	h.identity.Session = "host-0-2"
	r.begin(h)
	r.is(c, "web", map[fleet.State]int{fleet.StatePulling: 1})
	close(gate)
	r.is(c, "web", map[fleet.State]int{fleet.StateProven: 1})
}

func TestRemovedImage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c, h := r.one()
	h.engine.set(func() { delete(h.here, web+"@"+digest("web 1")) })
	h.engine.set(h.engine.end)
	r.is(c, "web", map[fleet.State]int{fleet.StatePulling: 1})
	h.engine.set(func() { h.refresh(keep.FleetPrefix + "web") })
	h.engine.set(h.engine.end)
	r.is(c, "web", map[fleet.State]int{fleet.StateProven: 1})
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	with := func(change func(*fleet.SetRequest)) fleet.SetRequest {
		s := images(web)
		change(&s)
		return s
	}
	for field, s := range map[string]fleet.SetRequest{
		"schedule: ":          with(func(s *fleet.SetRequest) { s.Schedule = "0 0 31 2 *" }),
		"timezone: ":          with(func(s *fleet.SetRequest) { s.Timezone = "Europe/Atlantis" }),
		"window: ":            with(func(s *fleet.SetRequest) { s.Window = "22:00" }),
		"policy: ":            with(func(s *fleet.SetRequest) { s.Policy = puller.PolicyAlways }),
		"hosts: ":             with(func(s *fleet.SetRequest) { s.Hosts = map[string]string{"A": "b"} }),
		"rollout: wave: ":     with(func(s *fleet.SetRequest) { s.Rollout.Wave = "some" }),
		"schedule: with":      with(func(s *fleet.SetRequest) { s.Policy, s.Schedule = puller.PolicyMissing, "@daily" }),
		"images: missing":     {},
		"images[0]: image: ":  images("No"),
		"images[0]: an image": {Images: puller.Images{{Image: web, Lease: "1h"}}},
	} {
		if _, err := c.PutSet(context.Background(), "web", s); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := c.PutSet(context.Background(), "a.b", images(web)); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "name: ") {
		t.Error(err)
	}
	if _, err := c.PutSet(context.Background(), "web", images(web, "registry.test/none:v1")); puller.KindOf(err) != puller.ErrNotFound || !strings.HasPrefix(err.Error(), "images[1]: ") {
		t.Error(err)
	}
	if all, err := c.Sets(); err != nil || len(all) != 0 {
		t.Errorf("something is kept: %+v, %v", all, err)
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, h := r.one()
	h.stop()
	host.Leave(h.engine, r.logger("host-0"))
	h.engine.set(func() {
		if len(h.sets) > 0 || h.here[web] == "" {
			t.Errorf("it keeps %v, and has %v", h.sets, h.here)
		}
	})
}
