package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller/fleet"
)

// FleetOptions are what a fleet is started with.
type FleetOptions struct {
	Bin     string // of towline
	Dir     string // for what the daemons keep; each has its own directory in it
	Network *Network
	Engines []*Engine // one for each host of Network, in its namespace
	// NATS has the URLs of a NATS that is there, which takes all hosts without credentials:
	// then each of them may change the fleet. "" has host 0 run one.
	NATS string
	// Prepare is called with the directory of a host, by its number, before its first start. It
	// may be nil.
	Prepare func(number int, dir string) error
	// Config is more YAML of a host, by its number. It may be nil. Without a section mirror
	// the accelerator helps with all images from 1 MiB on.
	Config func(number int) string
}

// Fleet is a fleet of real hosts: on each host of a network a dockerd and a towline. Host 0
// runs the NATS server, where there is no other, and may change the fleet.
type Fleet struct {
	Hosts []*FleetHost
	opts  FleetOptions
}

// FleetHost is a host of a Fleet. Its Towline is another one after each start.
type FleetHost struct {
	*Towline
	Client *client.Client
	ID     string // in the fleet
	Engine *Engine
	Place  *NetworkHost

	bin, dir string
	opts     TowlineOptions
}

const (
	fleetPort = "4222" // of the NATS server
	peerPort  = "7081"
)

// InvitedLabels are what a Fleet's hosts but host 0 are invited with.
var InvitedLabels = map[string]string{"role": "ci"}

// StartFleet starts the towlines of a fleet, and returns when all hosts are in it.
func StartFleet(ctx context.Context, o FleetOptions) (_ *Fleet, err error) {
	f := &Fleet{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lab: fleet: %w", err), f.Close())
		}
	}()
	for i := range o.Network.Hosts {
		if err := f.start(ctx, i); err != nil {
			return f, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return f, Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		hosts, err := f.Hosts[0].Client.Fleet().Hosts(ctx, nil)
		if err != nil {
			return err
		}
		live := 0
		for _, h := range hosts {
			if h.Live {
				live++
			}
		}
		if live != len(f.Hosts) {
			return fmt.Errorf("%d of %d hosts are live", live, len(f.Hosts))
		}
		return nil
	})
}

func (f *Fleet) start(ctx context.Context, i int) error {
	h := &FleetHost{Engine: f.opts.Engines[i], Place: f.opts.Network.Hosts[i], bin: f.opts.Bin}
	var err error
	if h.dir, err = os.MkdirTemp(f.opts.Dir, "h"); err != nil {
		return err
	}
	if f.opts.Prepare != nil {
		if err := f.opts.Prepare(i, h.dir); err != nil {
			return err
		}
	}
	joins := fmt.Sprintf("embedded: true, listen: %q", net.JoinHostPort(h.Place.Address, fleetPort))
	switch {
	case f.opts.NATS != "":
		joins = fmt.Sprintf("url: %q", f.opts.NATS)
	case i > 0:
		h.ID = fmt.Sprintf("host-%d", i)
		creds := filepath.Join(h.dir, "fleet.creds")
		joins = fmt.Sprintf("url: %q, creds: %q", "tls://"+net.JoinHostPort(f.opts.Network.Hosts[0].Address, fleetPort), creds)
		// A controller invites only once it has read the state of the fleet.
		ready, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		var invitation fleet.Invitation
		err := Poll(ready, 50*time.Millisecond, func(ctx context.Context) (err error) {
			invitation, err = f.Hosts[0].Client.Fleet().Invite(ctx, client.InviteRequest{Host: h.ID, Labels: InvitedLabels, Zone: "a"})
			return err
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(creds, []byte(invitation.Creds), 0o600); err != nil {
			return err
		}
	}
	more := ""
	if f.opts.Config != nil {
		more = f.opts.Config(i)
	}
	if !strings.Contains(more, "mirror:") {
		more += "mirror: {mode: auto, min_size: 1MiB}\n"
	}
	h.opts = TowlineOptions{
		EngineHost: h.Engine.Host, Namespace: h.Place.Namespace,
		Env: []string{"TOWLINE_REGISTRIES_ALLOW_PRIVATE=" + f.opts.Network.Range},
		Config: fmt.Sprintf("fleet: {name: trial, %s, zone: a, peer_listen: %q}\n%s", joins,
			net.JoinHostPort(h.Place.Address, peerPort), more),
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	f.Hosts = append(f.Hosts, h)
	if h.Client, err = client.New(h.Host, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		l, err := h.Client.Fleet().Link(ctx)
		if err == nil && l.State != fleet.LinkUp {
			err = fmt.Errorf("host %d is %s: %s", i, l.State, l.Reason)
		}
		h.ID = l.Host
		return err
	})
}

// Start starts the towline of a host again, after Stop or Kill.
func (h *FleetHost) Start(ctx context.Context) (err error) {
	h.Towline, err = StartTowline(ctx, h.bin, h.dir, h.opts)
	return err
}

// Close stops all towlines. The error names those that did not end well.
func (f *Fleet) Close() error {
	errs := make([]error, len(f.Hosts))
	var all sync.WaitGroup
	for i, h := range f.Hosts {
		all.Go(func() {
			if h.Client != nil {
				h.Client.Close()
			}
			if err := h.Stop(); err != nil {
				errs[i] = fmt.Errorf("host %d did not end well: %w", i, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
