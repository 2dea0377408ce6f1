package host_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// Two fleets on one NATS, in one account: hosts and sets of the same names are others in each.
func TestFleetsApart(t *testing.T) {
	t.Parallel()
	ci := newRig(t)
	render := emptyRig(t)
	render.fleet, render.port = "render", ci.port
	render.registry.tags[web] = digest("another web")
	a, b := ci.controller("main"), render.controller("main")
	ours, theirs := ci.hosts(2), render.hosts(1)
	ci.live(a, 2)
	render.live(b, 1)
	for n := 1; n <= 2; n++ {
		ci.registry.set(func() { ci.registry.tags[web] = digest(fmt.Sprint("web ", n)) })
		if s, err := ci.put(a, "web", images(web)); err != nil || s.Generation != uint64(n) || s.Counts[fleet.StateProven] != 2 || len(s.Members) != 2 {
			t.Errorf("%+v, %v", s, err)
		}
	}
	if all, err := b.Sets(); err != nil || len(all) != 0 {
		t.Errorf("the other fleet sees %+v, %v", all, err)
	}
	if s, err := render.put(b, "web", images(web)); err != nil || s.Generation != 1 || s.Counts[fleet.StateProven] != 1 || len(s.Members) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := b.DeleteSet(context.Background(), "web"); err != nil {
		t.Error(err)
	}
	render.until("its host has forgotten the set", func() (ok bool) {
		theirs[0].engine.set(func() { ok = len(theirs[0].sets) == 0 })
		return ok
	})
	if _, err := b.RemoveHost(context.Background(), "host-1"); puller.KindOf(err) != puller.ErrNotFound {
		t.Errorf("the removal of a host of the other fleet gives %v", err)
	}
	if s, err := a.Set("web"); err != nil || s.Generation != 2 || s.Counts[fleet.StateProven] != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for fleetName, c := range map[string]controller{"ci": a, "render": b} {
		hosts, err := c.Hosts()
		if want := map[string]int{"ci": 2, "render": 1}[fleetName]; err != nil || len(hosts) != want || c.Link().Hosts != want {
			t.Errorf("%s has %d hosts, and says %d, %v", fleetName, len(hosts), c.Link().Hosts, err)
		}
	}
	pulled := func(d *daemon) (all []string) {
		d.engine.set(func() {
			for image := range d.last {
				all = append(all, image)
			}
		})
		return all
	}
	if diff := cmp.Diff([]string{web + "@" + digest("another web")}, pulled(theirs[0])); diff != "" {
		t.Errorf("the host of the other fleet has pulled\n%s", diff)
	}
	if got := pulled(ours[0]); len(got) != 2 {
		t.Errorf("a host has pulled %q", got)
	}
}
