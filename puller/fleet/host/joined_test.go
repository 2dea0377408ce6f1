package host_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/control"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/fleet/host"
	"github.com/towline/towline/puller/fleet/link"
	towlineserver "github.com/towline/towline/puller/fleet/server"
	"github.com/towline/towline/puller/storetest"
)

// embedded is a fleet as daemons run it: an embedded server, and links.
type embedded struct {
	*rig
	*towlineserver.Server
}

func newEmbedded(t *testing.T) *embedded {
	r := emptyRig(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.log)
		}
	})
	s, err := towlineserver.New(towlineserver.Options{
		Fleet: "ci", Host: "main", Dir: filepath.Join(t.TempDir(), "fleet"), Listen: "127.0.0.1:0", Records: storetest.New().Records(),
		Log: r.logger("server"), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &embedded{r, s}
	e.background(s.Run)
	r.until("the server runs", func() bool {
		runs, _, _ := s.State()
		return runs
	})
	return e
}

// background runs something until the test ends.
func (e *embedded) background(run func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { run(ctx) })
	e.Cleanup(func() {
		cancel()
		ended.Wait()
	})
}

func (e *embedded) link(id string, c creds.Creds) *link.Link {
	e.Helper()
	o := link.Options{
		Fleet: "ci", Host: id, Creds: c, Log: e.logger(id), Metrics: prometheus.NewRegistry(),
		Identity: func() fleet.Identity {
			return fleet.Identity{Machine: "machine-" + id, Name: id, Platform: "linux/amd64", Address: "10.0.0.1:7080", Labels: map[string]string{"role": "stolen"}}
		},
	}
	if id == "main" {
		o.Local = e.Server
	}
	l, err := link.Open(o)
	if err != nil {
		e.Fatal(err)
	}
	e.background(l.Run)
	return l
}

func (e *embedded) daemon(id string, l *link.Link) *engine {
	d := newEngine()
	records := storetest.New().Records()
	h := host.New(host.Options{
		Link: l, Fleet: "ci", Host: id, Sets: d, Service: d, Tagger: d, Records: records, Every: every, Groups: host.OpenGroups("ci", id, records, e.logger(id)), Log: e.logger(id),
	})
	e.background(func(ctx context.Context) { h.Run(ctx) })
	return d
}

func (e *embedded) invite(id string, labels map[string]string) creds.Creds {
	e.Helper()
	i, err := e.Invite(context.Background(), fleet.InviteRequest{Host: id, Labels: labels})
	if err != nil {
		e.Fatal(err)
	}
	c, err := creds.Parse([]byte(i.Creds))
	if err != nil {
		e.Fatal(err)
	}
	return c
}

// TestInvitedHosts has hosts that were invited, of which one is hostile.
func TestInvitedHosts(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	own := e.link("main", e.Creds())
	c := control.New(control.Options{
		Link: own, Fleet: "ci", Host: "main", Session: own.Session(), Registry: &e.registry, Check: check, Inviter: e.Server, Log: e.logger("control"),
	})
	e.background(func(ctx context.Context) { c.Run(ctx) })
	e.daemon("main", own)
	one := e.daemon("one", e.link("one", e.invite("one", map[string]string{"role": "ci"})))
	two := e.link("two", e.invite("two", map[string]string{"role": "evil"}))
	e.daemon("two", two)
	all := controller{Controller: c}
	e.live(all, 3)
	s, err := e.put(all, "all", images(web))
	if err != nil || s.Counts[fleet.StateProven] != 3 {
		t.Fatalf("%+v, %v", s, err)
	}
	// The labels of its invitation count, and not what it says.
	stolen := images(db)
	stolen.Hosts = map[string]string{"role": "ci"}
	if s, err = e.put(all, "ci", stolen); err != nil || len(s.Members) != 1 || s.Members[0].Host != "one" {
		t.Errorf("%+v, %v", s.Members, err)
	}
	// It has JetStream answer a question of its own to another host, as if that were news.
	names := fleet.Subjects{Fleet: "ci"}
	forged := fleet.Desired{Format: 1, Serial: 1 << 40, Sets: []fleet.DesiredSet{{Set: "evil", Generation: 1, Images: []fleet.Image{{Image: db, Digest: digest("evil")}}}}}
	for range 5 {
		if _, err := two.Conn().Request(fleet.Key(names.Reports(), "two"), fleet.Encode(forged), limit); err != nil {
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: fleet.DirectGet(names.Reports(), "two"), Reply: fleet.Key(names.Desired(), "one")}
		if err := two.Conn().PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		if err := two.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
	}
	e.registry.set(func() { e.registry.tags[db] = digest("db 2") })
	if s, err = e.put(all, "ci", stolen); err != nil || s.Counts[fleet.StateProven] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	one.set(func() {
		if _, evil := one.last["registry.test/db:v1@"+digest("evil")]; evil || len(one.sets) != 2 {
			t.Errorf("the other host has pulled what it was told to: %v", one.last)
		}
	})
	if _, err := c.RemoveHost(context.Background(), "main"); err == nil {
		t.Error("a controller removes itself")
	}
	if _, err := c.RemoveHost(context.Background(), "two"); err != nil {
		t.Error(err)
	}
	e.until("it is refused", func() bool { return two.Link().State == fleet.LinkRefused || !two.Conn().IsConnected() })
	e.until("it is no member", func() bool {
		s, err := c.Set("all")
		return err == nil && len(s.Members) == 2
	})
	select {
	case <-time.After(time.Second): // it does not come back
	case <-t.Context().Done():
	}
	if hosts, err := c.Hosts(); err != nil || len(hosts) != 2 {
		t.Errorf("%+v, %v", hosts, err)
	}
}
