// Package membership joins the host of a daemon to its fleet: the server that the daemon may run,
// the link, what the host is to have, and the hosts that share images with it.
package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/control"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/fleet/host"
	"github.com/towline/towline/puller/fleet/link"
	"github.com/towline/towline/puller/fleet/server"
	"github.com/towline/towline/puller/store"
)

// Options are what a Membership needs. Without a fleet in Config, only Sets and Log are used.
type Options struct {
	Config   configs.Config
	Engine   *docker.Engine
	Instance string // of the store
	Version  string
	Records  store.Records
	Service  puller.Service
	Registry puller.Registry
	Sets     host.Sets
	Groups   *host.Groups
	// Certificate returns the daemon's own certificate as it is now. It is nil for none.
	Certificate func() (*tls.Certificate, error)
	Log         logrus.FieldLogger
	Metrics     prometheus.Registerer
}

// Membership is what joins this host to its fleet.
type Membership struct {
	name   string         // of the fleet
	host   string         // the ID of this one
	server *server.Server // nil unless this daemon runs one
	link   *link.Link
	self   *self

	controller *control.Controller
	keeps      *host.Host
}

// Check returns what is wrong with the fleet of a configuration and with the file that it names.
func Check(c configs.Fleet) error {
	if !c.Enabled() {
		return nil
	}
	_, err := fleetCreds(c)
	return err
}

// Open begins to join the fleet of the configuration. It returns nil if there is none,
// and waits for nobody.
func Open(o Options) (*Membership, error) {
	c := o.Config.Fleet
	if !c.Enabled() {
		if c.Name != "" {
			o.Log.WithField("fleet", c.Name).Warn("fleet.name is set, but this host joins no fleet; set fleet.url, fleet.creds or fleet.embedded")
		}
		host.Leave(o.Sets, o.Log)
		return nil, nil
	}
	shown, err := fleetCreds(c)
	if err != nil {
		return nil, err
	}
	f := &Membership{name: shown.Fleet, host: hostID(shown, o.Instance)}
	joining := link.Options{Fleet: f.name, Host: f.host, Creds: shown, Log: o.Log, Metrics: o.Metrics}
	towards := shown.URLs
	if c.Embedded {
		if f.server, err = newServer(o, f, shown.URLs); err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
		joining.Creds, joining.Local, towards = f.server.Creds(), f.server, nil
	}
	f.self = newSelf(o, towards)
	joining.Identity = f.self.identity
	if f.link, err = link.Open(joining); err != nil {
		return nil, fmt.Errorf("fleet.creds: %w", err)
	}
	controlling := control.Options{
		Link: f.link, Fleet: f.name, Host: f.host, Session: f.link.Session(), Registry: o.Registry, Check: o.Service.CheckPrewarm,
		Beat: fleet.BeatEvery, Log: o.Log, Metrics: o.Metrics,
	}
	if f.server != nil {
		controlling.Inviter = f.server
	}
	f.keeps = host.New(host.Options{
		Link: f.link, Fleet: f.name, Host: f.host, Sets: o.Sets, Service: o.Service, Tagger: o.Engine, Records: o.Records, Groups: o.Groups, Log: o.Log, Metrics: o.Metrics,
	})
	controlling.Kept = f.keeps.Sets
	f.controller = control.New(controlling)
	return f, nil
}

// Service returns the fleet for the API, nil for none.
func (f *Membership) Service() fleet.Service {
	if f == nil {
		return nil
	}
	return f.controller
}

func newServer(o Options, f *Membership, urls []string) (*server.Server, error) {
	certificate, ca, err := certificateFor(o)
	if err != nil {
		return nil, err
	}
	return server.New(server.Options{
		Fleet: f.name, Host: f.host, Dir: filepath.Join(o.Config.StateDir, "fleet"), Listen: o.Config.Fleet.Listen, URLs: urls,
		Certificate: certificate, CA: ca, Records: o.Records, Log: o.Log, Metrics: o.Metrics,
	})
}

// fleetCreds returns what the configuration says of the fleet: the settings, and what
// fleet.creds has where they say nothing.
func fleetCreds(c configs.Fleet) (creds.Creds, error) {
	var shown creds.Creds
	if c.Creds != "" {
		var err error
		if shown, err = creds.Read(c.Creds); err != nil {
			return creds.Creds{}, fmt.Errorf("fleet.creds: %s: %w", c.Creds, err)
		}
	}
	switch {
	case shown.Fleet == "":
		shown.Fleet = c.Name
	case c.Name != "" && c.Name != shown.Fleet:
		return creds.Creds{}, fmt.Errorf("fleet.name: %s, but the invitation in fleet.creds is for the fleet %s; set one of them right, or leave fleet.name out", c.Name, shown.Fleet)
	}
	if err := fleet.CheckFleetName(shown.Fleet); err != nil {
		return creds.Creds{}, fmt.Errorf("fleet.%w", err)
	}
	if c.URL != "" {
		shown.URLs = strings.Split(c.URL, ",")
	}
	if len(shown.URLs) == 0 && !c.Embedded {
		return creds.Creds{}, errors.New("fleet.url: missing; fleet.creds is no invitation, which would have it")
	}
	return shown, nil
}

// hostID returns this host's ID in its fleet: that of its invitation, or else the store's.
func hostID(c creds.Creds, instance string) string {
	if c.Host != "" {
		return c.Host
	}
	return instance
}

// Run keeps the host in its fleet until ctx ends. f may be nil.
func (f *Membership) Run(ctx context.Context, group *errgroup.Group) {
	if f == nil {
		return
	}
	group.Go(func() error { return f.controller.Run(ctx) })
	group.Go(func() error { return f.keeps.Run(ctx) })
	group.Go(func() error {
		f.connect(ctx)
		return nil
	})
}

// connect keeps the link until ctx ends. The server ends after it: the end of the session
// goes through it.
func (f *Membership) connect(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if f.server != nil {
		serving.Go(func() { f.server.Run(running) })
	}
	serving.Go(func() { f.self.follow(running) })
	f.link.Run(ctx)
}
