package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/towline/towline/puller/fleet"
)

// stranger is a host of another version: what it says is written by hand.
type stranger struct {
	*rig
	conn *nats.Conn
	id   string
}

// stranger has a host join, and beat until the test ends.
func (r *rig) stranger(id, identity, beat string) stranger {
	r.Helper()
	conn, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", r.port), nats.CustomInboxPrefix(fleet.InboxPrefix(id)))
	if err != nil {
		r.Fatal(err)
	}
	s := stranger{r, conn, id}
	s.say("$KV.towline_ci_reports."+id, identity)
	ctx, cancel := context.WithCancel(context.Background())
	var beats sync.WaitGroup
	beats.Go(func() {
		for ctx.Err() == nil {
			conn.Publish("towline.ci.beat."+id, []byte(beat))
			select {
			case <-ctx.Done():
			case <-time.After(r.beat / 2):
			}
		}
	})
	r.Cleanup(func() {
		cancel()
		beats.Wait()
		conn.Close()
	})
	return s
}

// say publishes something, and returns the answer.
func (s stranger) say(subject, value string) []byte {
	s.Helper()
	m, err := s.conn.Request(subject, []byte(value), limit)
	if err != nil {
		s.Fatal(err)
	}
	return m.Data
}

// TestOtherVersions has a host of an older version, or of a later one, in the fleet: it leaves
// fields out, and says what is not known.
func TestOtherVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	own := r.hosts(1)[0]
	other := r.stranger("other-1", `{"session":"a","name":"a machine","version":"v0.0.1","platform":"linux/amd64","colour":"blue"}`, `{"session":"a","load":3}`)
	r.live(c, 2)
	if _, err := c.PutSet(context.Background(), "web", images(web)); err != nil {
		t.Fatal(err)
	}
	r.until("it is told what it is to have", func() bool {
		_, err := r.get("towline_ci_desired", "other-1")
		return err == nil
	})
	var answer fleet.Answer
	if err := json.Unmarshal(other.say("towline.ci.ask.other-1", `{"set":"web","more":[1]}`), &answer); err != nil || answer.Group == nil || len(answer.Group.Members) != 1 || answer.Group.Members[0].Host != "host-0" {
		t.Errorf("who has no address shares the set with %+v, %v", answer.Group, err)
	}
	set, err := c.Set("web")
	if err != nil {
		t.Fatal(err)
	}
	sum := fleet.SumOf(set.Images)
	for _, says := range []struct {
		name, report string
		state        fleet.State
		err          []string
	}{
		{"a field that is not known", `{"generation":1,"state":"pulling","percent":40}`, fleet.StatePulling, nil},
		{"no sum", `{"generation":1,"state":"proven"}`, fleet.StateFailed, []string{"not which digests", "v0.0.1"}},
		{"a state that is not known", `{"generation":1,"state":"verified","sum":"` + sum + `"}`, fleet.StateFailed, []string{"can't be read", `"verified" is not known`, "v0.0.1"}},
		{"another form", `{"generation":"one","state":["proven"]}`, fleet.StateFailed, []string{"can't be read", "v0.0.1"}},
		{"a later format", `{"format":2,"generation":1,"state":"proven","sum":"` + sum + `"}`, fleet.StateFailed, []string{"format 2", "v0.0.1"}},
		{"no generation", `{"state":"proven","sum":"` + sum + `"}`, fleet.StateWaiting, nil},
		{"no format", `{"generation":1,"state":"proven","sum":"` + sum + `"}`, fleet.StateProven, nil},
	} {
		t.Run(says.name, func(t *testing.T) {
			other.say("$KV.towline_ci_reports.other-1.web", says.report)
			var m fleet.MemberState
			r.until("the controller has taken it up", func() bool {
				set, err = c.Set("web")
				for _, one := range set.Members {
					if one.Host == "other-1" {
						m = one
					}
				}
				ok := err == nil && m.State == says.state
				for _, words := range says.err {
					ok = ok && strings.Contains(m.Error, words)
				}
				return ok
			})
			if len(says.err) == 0 && m.Error != "" {
				t.Errorf("it is shown with %q", m.Error)
			}
		})
	}
	r.is(c, "web", map[fleet.State]int{fleet.StateProven: 2})
	hosts, err := c.Hosts()
	if err != nil || len(hosts) != 2 || hosts[1].ID != "other-1" || hosts[1].Version != "v0.0.1" || !hosts[1].Live {
		t.Errorf("the hosts are %+v, %v", hosts, err)
	}
	own.engine.set(func() {
		if len(own.sets) != 1 {
			t.Errorf("the other host keeps %v", own.sets)
		}
	})
}
