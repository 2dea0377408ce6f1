package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller/fleet"
)

// rewrite has the record of a set say another time of its last resolution, as a controller
// with another clock would have written it.
func (r *rig) rewrite(set string, resolved time.Time) {
	r.Helper()
	conn, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", r.port))
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	kv, err := js.KeyValue(ctx, fleet.Subjects{Fleet: "ci"}.Sets())
	if err != nil {
		r.Fatal(err)
	}
	for {
		e, err := kv.Get(ctx, set)
		if err != nil {
			r.Fatal(err)
		}
		var record map[string]any
		if err := json.Unmarshal(e.Value(), &record); err != nil {
			r.Fatal(err)
		}
		record["resolved"] = resolved
		value, err := json.Marshal(record)
		if err != nil {
			r.Fatal(err)
		}
		_, err = kv.Update(ctx, set, value, e.Revision())
		if err == nil {
			return
		}
		// The controller writes too.
		if conflict := new(jetstream.APIError); !errors.As(err, &conflict) || conflict.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
			r.Fatal(err)
		}
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	r.hosts(2)
	r.live(c, 2)
	s := images(web)
	s.Schedule, s.Timezone = "@every 1h", "UTC"
	set, err := r.put(c, "web", s)
	if next := time.Until(set.NextRun); err != nil || next <= 0 || next > time.Hour {
		t.Fatalf("the next run is in %s, %v", next, err)
	}
	// Nothing has moved: no new generation.
	r.rewrite("web", time.Now().Add(-3*time.Hour))
	r.until("the tags are resolved again", func() bool {
		set, err = c.Set("web")
		return err == nil && time.Since(set.ResolvedAt) < time.Hour
	})
	if set.Generation != 1 {
		t.Errorf("it has generation %d", set.Generation)
	}
	// A tag has moved.
	r.registry.set(func() { r.registry.tags[web] = digest("web 2") })
	r.rewrite("web", time.Now().Add(-3*time.Hour))
	r.until("there is a new generation", func() bool {
		set, err = c.Set("web")
		return err == nil && set.Generation == 2
	})
	if set = r.is(c, "web", map[fleet.State]int{fleet.StateProven: 2}); set.Images[0].Digest != digest("web 2") {
		t.Errorf("it is %+v", set)
	}
	// A registry that does not know the tag changes nothing.
	r.registry.set(func() { delete(r.registry.tags, web) })
	r.rewrite("web", time.Now().Add(-3*time.Hour))
	r.until("the set says why", func() bool {
		set, err = c.Set("web")
		return err == nil && set.Error != ""
	})
	if set.Generation != 2 || set.Counts[fleet.StateProven] != 2 {
		t.Errorf("it is %+v", set)
	}
}

// TestClockSkew has a controller whose clock is hours ahead.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	r.hosts(1)
	r.live(c, 1)
	s := images(web)
	s.Schedule, s.Timezone = "@every 1h", "UTC"
	if _, err := r.put(c, "web", s); err != nil {
		t.Fatal(err)
	}
	r.rewrite("web", time.Now().Add(7*time.Hour))
	r.until("it is seen", func() bool {
		set, err := c.Set("web")
		return err == nil && time.Until(set.ResolvedAt) > 6*time.Hour
	})
	set, err := c.Set("web")
	if next := time.Until(set.NextRun); err != nil || next <= 0 || next > time.Hour {
		t.Errorf("the next run is in %s, %v", next, err)
	}
	if set.Counts[fleet.StateProven] != 1 {
		t.Errorf("it is %+v", set)
	}
}

// TestKilledInAWave ends the controller that acts while the members of a wave are at work.
func TestKilledInAWave(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.controller("a")
	r.until("a acts", func() bool { return a.Link().Leader == "a" })
	b := r.controller("b")
	hosts := r.hosts(6)
	r.live(b, 6)
	gate := make(chan struct{})
	for _, h := range hosts {
		h.engine.set(func() { h.gate = gate })
	}
	s := images(web)
	s.Rollout = fleet.RolloutRequest{Canary: "1", Wave: "2"}
	set, err := a.PutSet(context.Background(), "web", s)
	if err != nil {
		t.Fatal(err)
	}
	r.is(b, "web", map[fleet.State]int{fleet.StatePulling: 1, fleet.StateWaiting: 5})
	a.kill()
	close(gate)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if set, err = b.Wait(ctx, "web", set.Generation); err != nil || set.Rollout.State != fleet.RolloutDone || set.Counts[fleet.StateProven] != 6 || set.Rollout.Wave != 4 {
		t.Errorf("%+v, %v", set.Rollout, err)
	}
	for _, h := range hosts {
		h.engine.set(func() {
			if h.puts != 1 {
				t.Errorf("a host was given it %d times", h.puts)
			}
		})
	}
}
