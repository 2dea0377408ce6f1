package fleet_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller/fleet"
)

var faults = flag.Bool("nats", false, "try what NATS may suffer too: two minutes")

func needFaults(t *testing.T) {
	t.Helper()
	if !*faults {
		t.Skip("-nats runs it")
	}
}

// natsCluster is NATS servers in this process, which the hosts of a network reach.
type natsCluster struct {
	*testing.T
	options []*server.Options
	servers []*server.Server
}

// newNATS returns so many servers, which do not run yet. They end with the test.
func newNATS(t *testing.T, servers int) *natsCluster {
	t.Helper()
	lab.Need(t, site.err)
	c := &natsCluster{T: t, servers: make([]*server.Server, servers)}
	var routes []string
	var ports []int
	for range 2 * len(c.servers) {
		l, err := net.Listen("tcp", site.network.Address+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	for i := range c.servers {
		routes = append(routes, fmt.Sprintf("nats://%s:%d", site.network.Address, ports[2*i+1]))
	}
	for i := range c.servers {
		o := &server.Options{
			ServerName: fmt.Sprint("nats-", i), Host: site.network.Address, Port: ports[2*i], NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
		}
		if servers > 1 {
			o.Cluster = server.ClusterOpts{Name: "trial", Host: site.network.Address, Port: ports[2*i+1]}
			o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		}
		c.options = append(c.options, o)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.kill(i)
		}
	})
	return c
}

func (c *natsCluster) urls() string {
	var all []string
	for _, o := range c.options {
		all = append(all, fmt.Sprintf("nats://%s:%d", o.Host, o.Port))
	}
	return strings.Join(all, ",")
}

func (c *natsCluster) start(i int) {
	c.Helper()
	s, err := server.NewServer(c.options[i])
	if err != nil {
		c.Fatal(err)
	}
	c.servers[i] = s
	s.Start()
}

func (c *natsCluster) kill(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// leader returns which server leads the bucket of sets.
func (c *natsCluster) leader() (int, error) {
	for i, s := range c.servers {
		if s != nil && s.JetStreamIsStreamLeader("$G", fleet.Stream(fleet.Subjects{Fleet: "trial"}.Sets())) {
			return i, nil
		}
	}
	return 0, errors.New("nobody leads the bucket of sets")
}

// A NATS of three servers loses its leader, half of the hosts, and all of itself.
func TestCluster(t *testing.T) {
	needFaults(t)
	n := newNATS(t, 3)
	for i := range n.servers {
		n.start(i)
	}
	r := newRig(t, options{nats: n.urls()})
	ref, digest, _ := r.push("app", 1, 4<<20)
	if err := r.wait("web", r.apply("web", client.FleetSetRequest{Images: images(ref)})); err != nil {
		t.Fatal(err)
	}
	r.has(ref, digest, r.hosts...)

	t.Run("the leader is killed in a rollout", func(t *testing.T) {
		ref, digest, _ := r.push("next", 2, 4<<20)
		generation := r.apply("web", client.FleetSetRequest{Images: images(ref), Rollout: fleet.RolloutRequest{Wave: "1"}})
		leader := 0
		r.eventually("there is a leader", func() (err error) {
			leader, err = n.leader()
			return err
		})
		n.kill(leader)
		began := time.Now()
		if err := r.wait("web", generation); err != nil {
			t.Fatal(err)
		}
		t.Logf("all have it %s after NATS server %d was killed", time.Since(began).Round(100*time.Millisecond), leader)
		r.has(ref, digest, r.hosts...)
		n.start(leader)
	})
	t.Run("half of the hosts are cut off", func(t *testing.T) {
		away := r.hosts[(len(r.hosts)+1)/2:]
		for _, h := range away {
			if err := h.Place.Cut(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Place.Mend(context.Background()) })
		}
		for _, h := range away {
			r.stands("web", h, 0, fleet.StateAway)
		}
		ref, digest, _ := r.push("split", 1, 4<<20)
		generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
		if err := r.wait("web", generation); err != nil {
			t.Fatalf("those that are cut off delay the others: %v", err)
		}
		for _, h := range away {
			if err := h.Place.Mend(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for _, h := range away {
			r.stands("web", h, generation, fleet.StateProven)
		}
		t.Logf("who was cut off has it %s after", time.Since(began).Round(100*time.Millisecond))
		r.has(ref, digest, r.hosts...)
	})
	t.Run("all servers are started again", func(t *testing.T) {
		before, err := r.hosts[0].Client.Fleet().Set(r.Context(), "web", "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range n.servers {
			n.kill(i)
		}
		for _, h := range r.hosts {
			r.away(h)
		}
		_, err = r.hosts[0].Client.Fleet().PutSet(r.Context(), "web", client.FleetSetRequest{Images: images(ref)})
		if err == nil || !strings.Contains(err.Error(), "NATS does not answer") {
			t.Errorf("without NATS, an apply says %v", err)
		}
		for i := range n.servers {
			n.start(i)
		}
		began := time.Now()
		for _, h := range r.hosts {
			r.eventually(h.ID+" is in its fleet", func() error {
				l, err := h.Client.Fleet().Link(r.Context())
				if err != nil || l.State != fleet.LinkUp {
					return errors.Join(fmt.Errorf("%+v", l), err)
				}
				return nil
			})
		}
		for _, h := range r.hosts {
			r.stands("web", h, before.Generation, fleet.StateProven)
		}
		t.Logf("all is known again %s after", time.Since(began).Round(100*time.Millisecond))
		var generation uint64
		r.eventually("a set is taken", func() error {
			set, err := r.hosts[1].Client.Fleet().PutSet(r.Context(), "web", client.FleetSetRequest{Images: images(ref)})
			generation = set.Generation
			return err
		})
		if err := r.wait("web", generation); err != nil {
			t.Fatal(err)
		}
	})
}

// All daemons may change the fleet. The one that acts is killed in the middle of a rollout,
// and another one goes on.
func TestControllers(t *testing.T) {
	needFaults(t)
	n := newNATS(t, 1)
	n.start(0)
	r := newRig(t, options{nats: n.urls(), link: lab.LinkOptions{Total: 4 << 20}}) // so that a wave takes seconds
	ref, digest, _ := r.push("app", 2, 4<<20)
	leader := ""
	r.eventually("one of them acts", func() error {
		l, err := r.hosts[0].Client.Fleet().Link(t.Context())
		if leader = l.Leader; err == nil && leader == "" {
			err = fmt.Errorf("%+v", l)
		}
		return err
	})
	at := slices.IndexFunc(r.hosts, func(h *lab.FleetHost) bool { return h.ID == leader })
	if at < 0 {
		t.Fatalf("%s acts, which is no host", leader)
	}
	acts := r.hosts[at]
	r.hosts = append(slices.Delete(slices.Clone(r.hosts), at, at+1), acts) // hosts[0] is called
	set, err := acts.Client.Fleet().PutSet(t.Context(), "web", client.FleetSetRequest{Images: images(ref), Rollout: fleet.RolloutRequest{Wave: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the rollout has begun", func() error {
		set, err := acts.Client.Fleet().Set(t.Context(), "web", "")
		if err == nil && set.Rollout.Released == 0 {
			err = fmt.Errorf("%+v", set.Rollout)
		}
		return err
	})
	acts.Kill()
	before, err := r.hosts[0].Client.Fleet().Set(t.Context(), "web", "")
	if err != nil || before.Rollout.State == fleet.RolloutDone {
		t.Fatalf("the rollout was over: %+v, %v", before.Rollout, err)
	}
	began := time.Now()
	if err := r.wait("web", set.Generation); err != nil {
		t.Fatal(err)
	}
	t.Logf("another one has ended the rollout %s after", time.Since(began).Round(100*time.Millisecond))
	r.has(ref, digest, r.hosts[:len(r.hosts)-1]...)
	if l, err := r.hosts[0].Client.Fleet().Link(t.Context()); err != nil || l.Leader == leader || l.Leader == "" {
		t.Errorf("who acts is %q, %v", l.Leader, err)
	}
	r.start(acts)
	r.stands("web", acts, set.Generation, fleet.StateProven)
	r.has(ref, digest, r.hosts...)
}

// away waits until a host says that it is alone, and why.
func (r *rig) away(h *lab.FleetHost) {
	r.Helper()
	r.eventually(h.ID+" says that it is alone", func() error {
		l, err := h.Client.Fleet().Link(r.Context())
		if err != nil || l.State != fleet.LinkAway || l.Reason == "" {
			return errors.Join(fmt.Errorf("%+v", l), err)
		}
		return nil
	})
}

// The disk of the NATS that a daemon runs is full: sets are refused with the reason, hosts go
// on, and all goes on when there is room.
func TestFullDisk(t *testing.T) {
	needFaults(t)
	lab.Need(t, site.err)
	disk := ""
	r := newRig(t, options{prepare: func(number int, dir string) error {
		if number > 0 {
			return nil
		}
		disk = filepath.Join(dir, "state", "fleet")
		if err := os.MkdirAll(disk, 0o700); err != nil {
			return err
		}
		return syscall.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size=16m")
	}})
	t.Cleanup(func() {
		r.hosts[0].Stop()
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	ref, digest, _ := r.push("app", 1, 2<<20)
	generation := r.apply("web", client.FleetSetRequest{Images: images(ref)})
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	r.eventually("an apply is refused, and says why", func() error {
		_, err := r.hosts[0].Client.Fleet().PutSet(t.Context(), "web", client.FleetSetRequest{Images: images(ref)})
		if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), disk) {
			return fmt.Errorf("it says %v", err)
		}
		t.Log(err)
		return nil
	})
	own, ownDigest, _ := r.push("own", 1, 2<<20)
	for _, h := range r.hosts { // each goes on by itself
		j, err := h.Client.Pull(t.Context(), client.PullRequest{Image: own})
		if err == nil {
			_, err = h.Client.Wait(t.Context(), j.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.has(own, ownDigest, r.hosts...)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.eventually("a set is taken", func() error {
		set, err := r.hosts[0].Client.Fleet().PutSet(t.Context(), "web", client.FleetSetRequest{Images: images(ref)})
		generation = set.Generation
		return err
	})
	if err := r.wait("web", generation); err != nil {
		t.Fatal(err)
	}
	for _, h := range r.hosts {
		r.stands("web", h, generation, fleet.StateProven)
	}
	r.has(ref, digest, r.hosts...)
}
