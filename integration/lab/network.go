package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Network is several hosts on this machine, each a network namespace with an address of
// its own. A bridge connects them with each other and with this process.
type Network struct {
	// Address is that of this process in the network.
	Address string
	// Range has all addresses, "10.0.0.0/24".
	Range string
	Hosts []*NetworkHost

	ip, tc, bridge string
	close          sync.Once
	closed         error
}

// NetworkHost is a host of a Network.
type NetworkHost struct {
	// Address is an IPv4 address.
	Address string
	// Namespace is the path of its network namespace, for [PrivateOptions] and
	// [TowlineOptions].
	Namespace string

	network *Network
	name    string // of the namespace
	link    string // the end of its link at the bridge
}

// maxNetworkHosts is how many addresses a network's hosts have.
const maxNetworkHosts = 250

// StartNetwork makes a network with n hosts. It needs root, and installs iproute2 as
// [Private] installs dockerd. Close removes it. Both wait while [KeepAddresses] holds.
func StartNetwork(ctx context.Context, n int) (*Network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: a network needs root")
	}
	if n < 1 || n > maxNetworkHosts {
		return nil, fmt.Errorf("lab: a network has 1 to %d hosts, not %d", maxNetworkHosts, n)
	}
	ip, err := installed(ctx, "ip", "iproute2", lookSystem("ip"), installPackage("iproute2"), nil)
	if err != nil {
		return nil, fmt.Errorf("lab: network: %w", err)
	}
	tc, ok := lookSystem("tc")()
	if !ok {
		return nil, errors.New("lab: network: iproute2 is there, and tc is not")
	}
	// Names of interfaces have at most 15 bytes. Several networks may be there at a time.
	var id [4]byte
	rand.Read(id[:]) // never fails
	prefix := fmt.Sprintf("tl%x", id[:2])
	subnet := fmt.Sprintf("10.%d.%d", 64+id[2]%128, id[3])
	network := &Network{Address: subnet + ".1", Range: subnet + ".0/24", ip: ip, tc: tc, bridge: prefix + "b"}
	unlock, err := lockFile(addressesLock, syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	err = network.make(ctx, prefix, subnet, n)
	unlock()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: network: %w", err), network.Close())
	}
	return network, nil
}

// lookSystem looks for a program in PATH, and where those of root are.
func lookSystem(name string) func() (string, bool) {
	return func() (string, bool) {
		for _, path := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
			if path, err := exec.LookPath(path); err == nil {
				return path, true
			}
		}
		return "", false
	}
}

// make makes the interfaces. Those of this machine get no IPv6 addresses: these would come
// later, and again with each Mend.
func (n *Network) make(ctx context.Context, prefix, subnet string, hosts int) error {
	for _, args := range [][]string{
		{"link", "add", n.bridge, "type", "bridge"},
		{"link", "set", n.bridge, "addrgenmode", "none"},
		{"addr", "add", n.Address + "/24", "dev", n.bridge},
		{"link", "set", n.bridge, "up"},
	} {
		if err := n.run(ctx, n.ip, args...); err != nil {
			return err
		}
	}
	for i := range hosts {
		name := fmt.Sprintf("%sh%d", prefix, i)
		h := &NetworkHost{Address: fmt.Sprintf("%s.%d", subnet, i+2), Namespace: filepath.Join("/run/netns", name), network: n, name: name, link: fmt.Sprintf("%sv%d", prefix, i)}
		if err := n.run(ctx, n.ip, "netns", "add", name); err != nil {
			return err
		}
		n.Hosts = append(n.Hosts, h)
		for _, args := range [][]string{
			{"link", "add", h.link, "type", "veth", "peer", "name", "eth0", "netns", name},
			{"link", "set", h.link, "addrgenmode", "none"},
			{"link", "set", h.link, "master", n.bridge, "up"},
			{"-n", name, "link", "set", "lo", "up"},
			{"-n", name, "addr", "add", h.Address + "/24", "dev", "eth0"},
			{"-n", name, "link", "set", "eth0", "up"},
		} {
			if err := n.run(ctx, n.ip, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Network) run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Limit gives the link of a host a rate in bytes a second, in each direction.
func (h *NetworkHost) Limit(ctx context.Context, rate int64) error {
	limit := []string{"root", "tbf", "rate", fmt.Sprintf("%dbit", rate*8), "burst", "256kb", "latency", "50ms"}
	return errors.Join(
		h.network.run(ctx, h.network.tc, append([]string{"qdisc", "replace", "dev", h.link}, limit...)...),
		h.network.run(ctx, h.network.tc, append([]string{"-n", h.name, "qdisc", "replace", "dev", "eth0"}, limit...)...))
}

// Cut takes the link of a host down: packets are lost, and nobody is told.
func (h *NetworkHost) Cut(ctx context.Context) error {
	return h.network.run(ctx, h.network.ip, "link", "set", h.link, "down")
}

// Mend brings the link up again.
func (h *NetworkHost) Mend(ctx context.Context) error {
	return h.network.run(ctx, h.network.ip, "link", "set", h.link, "up")
}

// Close removes the network. Programs that still run in it lose it. Calling it again gives
// the same answer.
func (n *Network) Close() error {
	n.close.Do(func() {
		ctx := context.Background()
		var errs []error
		unlock, err := lockFile(addressesLock, syscall.LOCK_EX)
		if err != nil {
			errs = append(errs, err) // the network goes all the same
		} else {
			defer unlock()
		}
		for _, h := range n.Hosts {
			// The other end of its link goes too.
			if err := n.run(ctx, n.ip, "netns", "del", h.name); err != nil {
				errs = append(errs, err)
			}
			n.run(ctx, n.ip, "link", "del", h.link) // an error says that it has gone already
		}
		if _, err := os.Stat(filepath.Join("/sys/class/net", n.bridge)); err == nil {
			errs = append(errs, n.run(ctx, n.ip, "link", "del", n.bridge))
		}
		n.closed = errors.Join(errs...)
	})
	return n.closed
}

// within has a command run in a network namespace, by its path; "" is this process's own.
func within(namespace string, cmd *exec.Cmd) {
	if namespace == "" {
		return
	}
	cmd.Args = append([]string{"nsenter", "--net=" + namespace, "--", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/nsenter" // of util-linux; it becomes the command
}
