package daemon

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/puller/mirror/sharing"
)

// sharers are the hosts with which this one shares images. Until it has joined its fleet,
// there are none. It implements fleet.Groups.
type sharers struct{ host atomic.Pointer[fleet.Groups] }

// Group implements fleet.Groups.
func (s *sharers) Group(repository, digest string) (fleet.Group, bool) {
	if g := s.host.Load(); g != nil {
		return (*g).Group(repository, digest)
	}
	return fleet.Group{}, false
}

// Keyed implements fleet.Groups.
func (s *sharers) Keyed(set string, generation uint64, repository, digest string) (fleet.Group, bool) {
	if g := s.host.Load(); g != nil {
		return (*g).Keyed(set, generation, repository, digest)
	}
	return fleet.Group{}, false
}

// inPeers is this host's part in the exchange of images. It is nil for a host in no fleet.
type inPeers struct {
	sharers  sharers
	node     *peers.Node
	log      logrus.FieldLogger
	listener net.Listener // nil for a host that only takes
}

// openPeers listens for other hosts of the fleet, if there is one.
func openPeers(c configs.Fleet, log logrus.FieldLogger, metrics prometheus.Registerer) (*inPeers, error) {
	if !c.Enabled() {
		return nil, nil
	}
	p := &inPeers{log: log}
	if c.PeerListen != "" {
		var err error
		if p.listener, err = net.Listen("tcp", c.PeerListen); err != nil {
			return nil, fmt.Errorf("fleet.peer_listen: %w", err)
		}
	}
	p.node = peers.New(peers.Options{Groups: &p.sharers, UploadRate: c.UploadRate, Log: log, Metrics: metrics})
	return p, nil
}

// peers returns who shares images with this host, nil for nobody.
func (p *inPeers) peers() sharing.Peers {
	if p == nil {
		return nil
	}
	return p.node
}

// join says with whom this host shares images.
func (p *inPeers) join(g fleet.Groups) {
	if p != nil {
		p.sharers.host.Store(&g)
	}
}

// run gives other hosts what the accelerator has, until ctx ends. Where that fails, this host
// goes on without.
func (p *inPeers) run(ctx context.Context, accelerator *mirror.Mirror) {
	if p == nil {
		return
	}
	if err := p.node.Run(ctx, p.listener, accelerator); err != nil {
		p.log.WithError(err).Error("other hosts of the fleet get nothing from this one")
	}
}

// close is for a daemon that does not come to run.
func (p *inPeers) close() {
	if p != nil && p.listener != nil {
		p.listener.Close()
	}
}
