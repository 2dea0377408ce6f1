package membership

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/fleet"
)

// self is what this host says of itself in its fleet.
type self struct {
	engine  *docker.Engine
	peers   string // where other hosts fetch from it, as it is configured
	towards []string

	mu  sync.Mutex
	now fleet.Identity
}

// newSelf returns a self of which the engine's platform and the address are not yet known.
// towards are the servers that the host calls.
func newSelf(o Options, towards []string) *self {
	name, err := os.Hostname()
	if err != nil {
		name = o.Instance
	}
	c := o.Config.Fleet
	return &self{
		engine: o.Engine, peers: c.PeerListen, towards: towards,
		now: fleet.Identity{Machine: machine(o.Instance), Name: name, Version: o.Version, Labels: c.Labels, Zone: c.Zone},
	}
}

// identity returns it.
func (s *self) identity() fleet.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// askFor is how long the engine may take to answer.
const askFor = 5 * time.Second

// selfEvery is how often it is looked whether the engine or the address is another one.
const selfEvery = time.Minute

// follow keeps the engine's platform and the address up to date until ctx ends.
func (s *self) follow(ctx context.Context) {
	again := time.NewTicker(selfEvery)
	defer again.Stop()
	for {
		address := peerAddress(s.peers, s.towards)
		asking, cancel := context.WithTimeout(ctx, askFor)
		info, err := s.engine.Info(asking)
		cancel()
		s.mu.Lock()
		s.now.Address = address
		if err == nil {
			s.now.Platform = info.Platform
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// peerAddress returns the address at which other hosts reach what listens at one, "" for
// none. Where that is every address of the machine, it is the one from which the machine calls
// the fleet's servers.
func peerAddress(listen string, towards []string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return ""
	}
	if host != "" && !net.ParseIP(host).IsUnspecified() {
		return listen
	}
	const testNet = "192.0.2.1:9" // of no machine (RFC 5737)
	for _, there := range append(calls(towards), testNet) {
		// A UDP socket that is connected sends nothing.
		c, err := net.Dial("udp", there)
		if err != nil {
			continue
		}
		a, ok := c.LocalAddr().(*net.UDPAddr)
		c.Close()
		if ok && !a.IP.IsUnspecified() {
			return net.JoinHostPort(a.IP.String(), port)
		}
	}
	return ""
}

// calls returns the addresses of servers.
func calls(servers []string) (all []string) {
	for _, s := range servers {
		if u, err := url.Parse(s); err == nil {
			port := u.Port()
			if port == "" {
				port = "4222"
			}
			all = append(all, net.JoinHostPort(u.Hostname(), port))
		}
	}
	return all
}

// machine returns what tells this machine apart from others, also from a copy of its disk
// in another virtual machine where the hypervisor gives that another ID. It tells nothing of
// the machine.
func machine(instance string) string {
	h := sha256.New()
	h.Write([]byte(instance))
	for _, file := range []string{"/etc/machine-id", "/sys/class/dmi/id/product_uuid"} {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // there is none, or this user may not read it: then the others tell
		}
		h.Write([]byte("\n" + strings.TrimSpace(string(content))))
	}
	const bytes = 16
	return hex.EncodeToString(h.Sum(nil)[:bytes])
}
