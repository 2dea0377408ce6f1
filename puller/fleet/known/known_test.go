package known_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
	"github.com/towline/towline/puller/fleet/rollout"
)

// zone is the longest that there may be.
var zone = strings.Repeat("z", fleet.MaxLabel)

// model returns a fleet with the set "web" on all hosts, and so many of them.
func model(t *testing.T, hosts int) *known.Model {
	t.Helper()
	m := known.New()
	set, err := known.NewSet("ci", "web", &known.Record{
		Generation: 1, Request: fleet.SetRequest{Protect: new(true)}, Images: []fleet.Image{{Image: "registry.test/web:v1", Digest: "sha256:one"}},
		Rollout: rollout.Record{State: fleet.RolloutDone},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.PutSet("web", set, 1)
	for n := range hosts {
		h := m.Host(fmt.Sprint("build-", n))
		h.Identity, h.Live = &fleet.Identity{Session: "s", Zone: zone, Platform: "linux/amd64", Address: fmt.Sprintf("10.1.%d.%d:7081", n/250, n%250)}, true
		h.Heard = time.Now()
	}
	return &m
}

func TestGroup(t *testing.T) {
	t.Run("a few", func(t *testing.T) {
		m := model(t, 3)
		m.Hosts["build-1"].Live = false
		data, err := m.Group("build-0", "web")
		if err != nil || strings.Count(string(data), `"10.1.0.`) != 2 {
			t.Errorf("%s, %v", data, err)
		}
		if _, err := m.Group("build-0", "other"); puller.KindOf(err) != puller.ErrForbidden {
			t.Error(err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := model(t, 8000)
			for range 2 {
				_, err := m.Group("build-0", "web")
				if puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "the set web has 8000 live members") {
					t.Errorf("%v", err)
				}
			}
			for n := 4000; n < 8000; n++ {
				m.Hosts[fmt.Sprint("build-", n)].Live = false
			}
			<-time.After(time.Second)
			if _, err := m.Group("build-0", "web"); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestStrays(t *testing.T) {
	t.Run("keys", func(t *testing.T) {
		m := model(t, 2)
		for _, key := range []string{"build-0.a", "build-0.b", "*.web", ">", "build-1." + strings.Repeat("x", 4000)} {
			m.Strayed(key)
		}
		for n := range 100_000 {
			m.Strayed(fmt.Sprint("flood.", n))
		}
		got := make(map[string]bool)
		for keys := m.Strays(1); len(keys) > 0; keys = m.Strays(1) {
			for _, key := range keys {
				got[key] = true
			}
		}
		if diff := cmp.Diff(map[string]bool{"build-0.a": true, "build-0.b": true, "build-1.>": true, "flood.>": true}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("another host's set", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := model(t, 2)
			m.Sets["web"].Request.Hosts = map[string]string{fleet.LabelHost: "build-0"}
			for _, id := range []string{"build-0", "build-1"} {
				m.HearReport(id, "web", &fleet.Report{Generation: 1, State: fleet.StatePulling})
			}
			m.Expire(time.Hour)
			if keys := m.Strays(10); len(keys) != 0 { // it may become a member
				t.Errorf("%q are removed", keys)
			}
			<-time.After(time.Minute)
			m.Expire(time.Hour)
			if keys := m.Strays(10); !cmp.Equal(keys, []string{"build-1.web"}) || len(m.Hosts["build-1"].Reports) != 0 || len(m.Hosts["build-0"].Reports) != 1 {
				t.Errorf("%q are removed", keys)
			}
		})
	})
}

// A host that names other digests than those of the generation has proven nothing.
func TestLies(t *testing.T) {
	m := model(t, 1)
	h, s := m.Hosts["build-0"], m.Sets["web"]
	h.Desired = &fleet.Desired{Sets: []fleet.DesiredSet{{Set: "web", Generation: 1, Images: s.Images}}}
	for name, c := range map[string]struct {
		report fleet.Report
		want   fleet.State
	}{
		"true":               {fleet.Report{Generation: 1, State: fleet.StateProven, Sum: s.Sum, Digest: "sha256:one"}, fleet.StateProven},
		"no sum":             {fleet.Report{Generation: 1, State: fleet.StateProven, Digest: "sha256:one"}, fleet.StateFailed},
		"another digest":     {fleet.Report{Generation: 1, State: fleet.StateProven, Sum: s.Sum, Digest: "sha256:two"}, fleet.StateFailed},
		"a later generation": {fleet.Report{Generation: 2, State: fleet.StateProven, Sum: s.Sum}, fleet.StateWaiting},
	} {
		m.HearReport("build-0", "web", &c.report)
		if got := h.State("web", s); got.State != c.want || c.want != fleet.StateProven && got.Digest != "" {
			t.Errorf("%s: it is %+v", name, got)
		}
	}
	h.Desired.Sets[0].Generation = 0 // it was not told to have it
	m.HearReport("build-0", "web", &fleet.Report{Generation: 1, State: fleet.StateProven, Sum: s.Sum})
	if got := h.State("web", s); got.State != fleet.StateWaiting {
		t.Errorf("what it was not to have is %+v", got)
	}
}
