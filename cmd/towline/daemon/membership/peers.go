package membership

import (
	"context"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller/fleet/host"
	"github.com/towline/towline/puller/fleet/peers"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/store"
)

// Peers is this host's part in the exchange of images. It is nil for a host in no fleet.
type Peers struct {
	groups   *host.Groups
	node     *peers.Node
	log      logrus.FieldLogger
	listener net.Listener // nil for a host that only takes
}

// OpenPeers listens for other hosts of the fleet, if there is one. instance is of the store.
func OpenPeers(c configs.Fleet, instance string, records store.Records, log logrus.FieldLogger, metrics prometheus.Registerer) (*Peers, error) {
	if !c.Enabled() {
		return nil, nil
	}
	shown, err := fleetCreds(c)
	if err != nil {
		return nil, err
	}
	p := &Peers{groups: host.OpenGroups(shown.Fleet, hostID(shown, instance), records, log), log: log}
	if c.PeerListen != "" {
		if p.listener, err = net.Listen("tcp", c.PeerListen); err != nil {
			return nil, fmt.Errorf("fleet.peer_listen: %w", err)
		}
	}
	p.node = peers.New(peers.Options{Groups: p.groups, UploadRate: c.UploadRate, Log: log, Metrics: metrics})
	return p, nil
}

// Sharing returns who shares images with this host, nil for nobody.
func (p *Peers) Sharing() sharing.Peers {
	if p == nil {
		return nil
	}
	return p.node
}

// Groups returns the groups of this host, nil for one in no fleet.
func (p *Peers) Groups() *host.Groups {
	if p == nil {
		return nil
	}
	return p.groups
}

// Run gives other hosts what the accelerator has, until ctx ends. Where that fails, this host
// goes on without.
func (p *Peers) Run(ctx context.Context, accelerator *mirror.Mirror) {
	if p == nil {
		return
	}
	if err := p.node.Run(ctx, p.listener, accelerator); err != nil {
		p.log.WithError(err).Error("other hosts of the fleet get nothing from this one")
	}
}

// Close is for a daemon that does not come to run.
func (p *Peers) Close() {
	if p != nil && p.listener != nil {
		p.listener.Close()
	}
}
