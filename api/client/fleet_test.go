package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/fleettest"
)

// newFleet returns a fleet of n hosts, and its API.
func newFleet(t *testing.T, n int) (*fleettest.Fleet, http.Handler) {
	t.Helper()
	f := fleettest.New()
	t.Cleanup(f.Close)
	for i := range n {
		f.Add(fleet.Host{ID: fmt.Sprintf("h%04d", i), Live: true, Labels: map[string]string{"odd": fmt.Sprint(i % 2)}})
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	return f, contracttest.Wrap(t, api.New(nil, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Open: true, Fleet: f}))
}

var redis = client.FleetSetRequest{Images: []client.PullRequest{{Image: "redis:7"}}}

func TestFleet(t *testing.T) {
	const hosts = 2300 // three pages
	f, h := newFleet(t, hosts)
	c, ctx := serve(t, h), t.Context()
	asked := redis
	asked.Hosts, asked.Rollout = map[string]string{"odd": "1"}, fleet.RolloutRequest{Wave: "10%"}
	s, err := c.Fleet().PutSet(ctx, "web", asked)
	if err != nil || s.Generation != 1 || s.Rollout.Members != hosts/2 || s.Rollout.RolloutRequest.Wave != "10%" || f.Asked().Rollout.Wave != "10%" {
		t.Fatalf("%+v, %v", s, err)
	}
	f.Report("web", "h0003", fleet.StateFailed, puller.Errorf(puller.ErrDenied, "no"))
	for state, want := range map[fleet.State]int{"": hosts / 2, fleet.StateFailed: 1, fleet.StateProven: 0} {
		if s, err := c.Fleet().Set(ctx, "web", state); err != nil || len(s.Members) != want || s.Name != "web" {
			t.Errorf("%q: %d members, %v", state, len(s.Members), err)
		}
	}
	if all, err := c.Fleet().Sets(ctx); err != nil || len(all) != 1 || all[0].Counts[fleet.StateFailed] != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	for want, labels := range map[int]map[string]string{hosts: nil, hosts / 2: {"odd": "0"}, 0: {"odd": "2"}} {
		if all, err := c.Fleet().Hosts(ctx, labels); err != nil || len(all) != want {
			t.Errorf("%v: %d hosts, %v", labels, len(all), err)
		}
	}
	if s, err := c.Fleet().ChangeRollout(ctx, "web", fleet.ActionPause); err != nil || s.Rollout.State != fleet.RolloutPaused {
		t.Errorf("%+v, %v", s, err)
	}
	if i, err := c.Fleet().Invite(ctx, client.InviteRequest{Host: "new", Labels: map[string]string{"a": "b"}}); err != nil || i.Creds == "" {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.Fleet().RemoveHost(ctx, "h0001"); puller.KindOf(err) != puller.ErrConflict {
		t.Error(err)
	}
	f.Live("h0001", false)
	if host, err := c.Fleet().RemoveHost(ctx, "h0001"); err != nil || host.ID != "h0001" {
		t.Errorf("%+v, %v", host, err)
	}
	if l, err := c.Fleet().Link(ctx); err != nil || l.State != fleet.LinkUp {
		t.Errorf("%+v, %v", l, err)
	}
	if s, err := c.Fleet().DeleteSet(ctx, "web"); err != nil || s.Name != "web" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Fleet().Set(ctx, "web", ""); puller.KindOf(err) != puller.ErrNotFound {
		t.Error(err)
	}
}

// unsteady breaks off its first calls, and takes none for a while.
func unsteady(h http.Handler, broken int64) (http.Handler, *atomic.Int64) {
	var calls atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && calls.Add(1) <= broken {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}), &calls
}

func TestWaitFleetSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := newFleet(t, 2)
		h, calls := unsteady(h, 3)
		c := serve(t, h)
		if _, err := c.Fleet().PutSet(t.Context(), "web", redis); err != nil {
			t.Fatal(err)
		}
		f.Report("web", "h0000", fleet.StateProven, nil)
		time.AfterFunc(time.Hour, func() { f.Report("web", "h0001", fleet.StateProven, nil) })
		if s, err := c.Fleet().WaitSet(t.Context(), "web", 1); err != nil || s.Counts[fleet.StateProven] != 2 || calls.Load() != 4 {
			t.Errorf("%+v, %v after %d calls", s, err, calls.Load())
		}
		f.Report("web", "h0001", fleet.StateFailed, puller.Errorf(puller.ErrNoSpace, "full"))
		if _, err := c.Fleet().WaitSet(t.Context(), "web", 1); puller.KindOf(err) != puller.ErrNoSpace || !strings.Contains(err.Error(), "h0001") {
			t.Error(err)
		}
		f.Report("web", "h0001", fleet.StatePulling, nil)
		limit, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Fleet().WaitSet(limit, "web", 1); err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}

func TestWaitFleetSetGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := unsteady(nil, 1000)
		began := time.Now()
		_, err := serve(t, h).Fleet().WaitSet(t.Context(), "web", 1)
		if waited := time.Since(began); err == nil || waited < time.Minute || waited > 2*time.Minute {
			t.Errorf("%v after %s", err, waited)
		}
	})
}

func TestFleetEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := newFleet(t, 2)
		h, calls := unsteady(h, 2)
		c := serve(t, h)
		if _, err := c.Fleet().PutSet(t.Context(), "web", redis); err != nil {
			t.Fatal(err)
		}
		var seen []string
		for e, err := range c.Fleet().Events(t.Context(), "web") {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == fleet.EventMember {
				seen = append(seen, e.Member.Host+" "+string(e.Member.State))
			}
			if len(seen) == 2 {
				f.Report("web", "h0001", fleet.StateProven, nil)
			}
			if len(seen) == 3 {
				break
			}
		}
		if diff := cmp.Diff([]string{"h0000 waiting", "h0001 waiting", "h0001 proven"}, seen); diff != "" || calls.Load() != 3 {
			t.Errorf("%d calls: %s", calls.Load(), diff)
		}
		for _, err := range c.Fleet().Events(t.Context(), "none") {
			if puller.KindOf(err) != puller.ErrNotFound {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for e, err := range c.Fleet().Events(ctx, "") {
			if err != nil {
				if err != context.Canceled {
					t.Error(err)
				}
				continue
			}
			if e.Type == fleet.EventSet {
				cancel()
			}
		}
	})
}
