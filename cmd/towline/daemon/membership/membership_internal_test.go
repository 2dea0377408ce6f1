package membership

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/storetest"
)

const fleetSeed = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"

func TestFleetCreds(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	invitation := creds.Creds{Fleet: "ci", Host: "build-7", URLs: []string{"tls://10.0.0.5:4222"}, Seed: fleetSeed}
	invited := write("invitation", creds.Format(invitation))
	seed := write("seed", fleetSeed)
	open := write("open", fleetSeed)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	moved := invitation
	moved.URLs = []string{"tls://a:1", "tls://b:2"}
	for name, c := range map[string]struct {
		config configs.Fleet
		want   creds.Creds
		says   string
	}{
		"invitation":      {configs.Fleet{Creds: invited}, invitation, ""},
		"other servers":   {configs.Fleet{Creds: invited, Name: "ci", URL: "tls://a:1,tls://b:2"}, moved, ""},
		"seed":            {configs.Fleet{Creds: seed, Name: "ci", URL: "tls://a:1"}, creds.Creds{Fleet: "ci", URLs: []string{"tls://a:1"}, Seed: fleetSeed}, ""},
		"nothing":         {configs.Fleet{Name: "ci", URL: "tls://a:1"}, creds.Creds{Fleet: "ci", URLs: []string{"tls://a:1"}}, ""},
		"embedded":        {configs.Fleet{Name: "ci", Embedded: true}, creds.Creds{Fleet: "ci"}, ""},
		"another fleet":   {configs.Fleet{Creds: invited, Name: "render"}, creds.Creds{}, "fleet.name: render, but the invitation in fleet.creds is for the fleet ci"},
		"no name":         {configs.Fleet{Creds: seed, URL: "tls://a:1"}, creds.Creds{}, "fleet.name: "},
		"no servers":      {configs.Fleet{Creds: seed, Name: "ci"}, creds.Creds{}, "fleet.url: missing"},
		"no file":         {configs.Fleet{Creds: filepath.Join(dir, "none")}, creds.Creds{}, "fleet.creds: "},
		"others may read": {configs.Fleet{Creds: open, Name: "ci", URL: "tls://a:1"}, creds.Creds{}, "chmod o-rwx"},
		"garbage":         {configs.Fleet{Creds: write("garbage", "garbage"), Name: "ci"}, creds.Creds{}, "fleet.creds: "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fleetCreds(c.config)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("the error is %v, want %q", err, c.says)
			}
		})
	}
}

func TestAuthorityOf(t *testing.T) {
	a, other := authtest.NewAuthority(t), authtest.NewAuthority(t)
	a.Issue("server", "towline")
	pair, err := tls.LoadX509KeyPair(a.File("server.pem"), a.File("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(a.File("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	chain := pair
	chain.Certificate = [][]byte{pair.Certificate[0], a.Cert.Raw}
	for name, c := range map[string]struct {
		pair tls.Certificate
		file string
		ca   string
		ok   bool
	}{
		"of the file":  {pair, a.File("ca.pem"), string(content), true},
		"of the chain": {chain, "", string(content), true},
		"of another":   {pair, other.File("ca.pem"), "", false},
		"of nobody":    {pair, "", "", false},
	} {
		if ca, ok := authorityOf(&c.pair, c.file); ca != c.ca || ok != c.ok {
			t.Errorf("%s: %v %q", name, ok, ca)
		}
	}
}

func TestPeerAddress(t *testing.T) {
	for _, c := range []struct{ listen, towards, want string }{
		{"", "tls://127.0.0.1:4222", ""},
		{"10.0.0.7:7080", "tls://127.0.0.1:4222", "10.0.0.7:7080"},
		{"build-7:7080", "tls://127.0.0.1:4222", "build-7:7080"},
		{"0.0.0.0:7080", "tls://127.0.0.1:4222", "127.0.0.1:7080"},
		{":7080", "tls://127.0.0.1", "127.0.0.1:7080"},
	} {
		if got := peerAddress(c.listen, []string{c.towards}); got != c.want {
			t.Errorf("%q gives %q, not %q", c.listen, got, c.want)
		}
	}
}

// A daemon runs the fleet's server, and another one joins with its invitation.
func TestFleetJoins(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := listener.Addr().String()
	listener.Close()
	open := func(instance string, c configs.Fleet) *Membership {
		t.Helper()
		engine, err := docker.New(docker.Options{Host: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { engine.Close() })
		log := logrus.New()
		log.SetOutput(t.Output())
		config := configs.Default()
		config.Fleet, config.StateDir = c, t.TempDir()
		f, err := Open(Options{
			Config: config, Engine: engine, Instance: instance, Version: "1.2.0", Records: storetest.New().Records(), Service: (*jobs.Service)(nil),
			Log: log, Metrics: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var ended sync.WaitGroup
		ended.Go(func() { f.connect(ctx) })
		t.Cleanup(func() {
			cancel()
			ended.Wait()
		})
		for late := time.After(20 * time.Second); ; {
			changed := f.link.Changed()
			if l := f.link.Link(); l.State == fleet.LinkUp {
				return f
			}
			select {
			case <-changed:
			case <-late:
				t.Fatalf("the link is %+v", f.link.Link())
			}
		}
	}
	main := open("first", configs.Fleet{Name: "ci", Embedded: true, Listen: listen})
	if l := main.link.Link(); !l.Controller || l.Host != "first" {
		t.Errorf("the link is %+v", l)
	}
	i, err := main.server.Invite(t.Context(), fleet.InviteRequest{Host: "build-7"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "creds")
	if err := os.WriteFile(path, []byte(i.Creds), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := open("second", configs.Fleet{Creds: path}).link.Link(); l.Controller || l.Host != "build-7" || l.Fleet != "ci" {
		t.Errorf("the link is %+v", l)
	}
}

func TestNoFleet(t *testing.T) {
	left := leftSets{"fleet.web": true, "fleet.db": true}
	f, err := Open(Options{Config: configs.Default(), Sets: left, Log: logrus.New()})
	if f != nil || err != nil || f.Service() != nil {
		t.Error(f, err)
	}
	if len(left) > 0 {
		t.Errorf("the sets of a fleet that was left are still there: %v", left)
	}
	f.Run(t.Context(), nil)
}

// leftSets are sets that a fleet has left on a host.
type leftSets map[string]bool

func (s leftSets) Sets() (all []keep.Set, _ []keep.SetFault) {
	for name := range s {
		all = append(all, keep.Set{Name: name, Source: keep.SetFromFleet})
	}
	return all, nil
}

func (s leftSets) DeleteOfFleet(name string) error {
	delete(s, name)
	return nil
}

func (leftSets) Ended() <-chan struct{}                                      { return nil }
func (leftSets) Set(string) (keep.Set, error)                                { return keep.Set{}, nil }
func (leftSets) RefreshSet(string) (puller.Job, error)                       { return puller.Job{}, nil }
func (leftSets) PutOfFleet(string, keep.SetRequest, map[string]string) error { return nil }
