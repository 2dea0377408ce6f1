package link_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/fleet/link"
	"github.com/towline/towline/puller/fleet/server"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) {
	link.Hurry(time.Second)
	flag.Parse()
	flag.Set("test.parallel", "12") // nearly all they do is wait
	goleak.VerifyTestMain(m)
}

// limit is how long a test waits for what does not come.
const limit = 2 * time.Minute

func logger(t testing.TB) logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(t.Output())
	return l
}

// embedded is a server as a daemon runs it.
type embedded struct {
	testing.TB
	*server.Server
	options server.Options
	stop    func()
}

func newEmbedded(t testing.TB) *embedded {
	e := &embedded{TB: t, options: server.Options{
		Fleet: "ci", Host: "main", Dir: filepath.Join(t.TempDir(), "fleet"), Listen: "127.0.0.1:0", Records: storetest.New().Records(), Log: logger(t),
	}}
	e.start()
	t.Cleanup(func() { e.stop() })
	return e
}

// start starts the server, at the same address as before.
func (e *embedded) start() {
	e.Helper()
	e.options.Metrics = prometheus.NewRegistry()
	s, err := server.New(e.options)
	if err != nil {
		e.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { s.Run(ctx) })
	e.Server, e.stop = s, sync.OnceFunc(func() {
		cancel()
		ended.Wait()
	})
	late := time.After(limit)
	for {
		runs, reason, changed := s.State()
		if runs {
			break
		}
		select {
		case <-changed:
		case <-late:
			e.Fatal(reason)
		}
	}
	e.options.Listen = s.Address().String()
}

func (e *embedded) invite(host string) creds.Creds {
	e.Helper()
	i, err := e.Invite(e.Context(), fleet.InviteRequest{Host: host})
	if err != nil {
		e.Fatal(err)
	}
	c, err := creds.Parse([]byte(i.Creds))
	if err != nil {
		e.Fatal(err)
	}
	return c
}

// host is a link that runs.
type host struct {
	testing.TB
	*link.Link
	stop func()
}

// local joins the daemon that runs the server.
func (e *embedded) local() *host {
	return join(e.TB, link.Options{Fleet: "ci", Host: "main", Creds: e.Creds(), Local: e.Server, Identity: machine("machine-main")})
}

func machine(name string) func() fleet.Identity {
	return func() fleet.Identity { return fleet.Identity{Machine: name, Name: "name of " + name} }
}

// join opens a link and runs it. It need not be up.
func join(t testing.TB, o link.Options) *host {
	t.Helper()
	o.Log, o.Metrics = logger(t), prometheus.NewRegistry()
	l, err := link.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { l.Run(ctx) })
	h := &host{t, l, sync.OnceFunc(func() {
		cancel()
		ended.Wait()
	})}
	t.Cleanup(h.stop)
	return h
}

// invited joins with an invitation.
func invited(t testing.TB, c creds.Creds, name string) *host {
	t.Helper()
	return join(t, link.Options{Fleet: c.Fleet, Host: c.Host, Creds: c, Identity: machine(name)})
}

// is waits for a state with a reason that has some words.
func (h *host) is(state fleet.LinkState, says string) fleet.Link {
	h.Helper()
	return h.isWithin(limit, state, says)
}

func (h *host) isWithin(limit time.Duration, state fleet.LinkState, says string) fleet.Link {
	h.Helper()
	late := time.After(limit)
	for {
		changed := h.Changed()
		l := h.Link.Link()
		if l.State == state && strings.Contains(l.Reason, says) {
			return l
		}
		select {
		case <-changed:
		case <-late:
			h.Fatalf("the link is %+v; want %s with %q", l, state, says)
		}
	}
}

// stays fails if the link changes while another thing is waited for.
func (h *host) stays(state fleet.LinkState, while func()) {
	h.Helper()
	changed := h.Changed()
	while()
	select {
	case <-changed:
		h.Errorf("the link changed to %+v", h.Link.Link())
	default:
	}
	if l := h.Link.Link(); l.State != state {
		h.Errorf("the link is %+v; want %s", l, state)
	}
}

// says returns what a fleet's controllers know of a host.
func says(t *testing.T, conn *nats.Conn, name, id string) (fleet.Identity, error) {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	b, err := js.KeyValue(ctx, fleet.Subjects{Fleet: name}.Reports())
	if err != nil {
		return fleet.Identity{}, err
	}
	e, err := b.Get(ctx, id)
	if err != nil {
		return fleet.Identity{}, err
	}
	return fleet.ParseIdentity(e.Value())
}

// nodes are NATS servers of their own, in one cluster if there are several.
type nodes struct {
	*testing.T
	config  string // accounts and users
	all     []*natsserver.Server
	options []*natsserver.Options
}

func newNodes(t *testing.T, n int, config string) *nodes {
	all := &nodes{T: t, config: config}
	var routes []string
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[len(ports)-1]))
		l.Close()
	}
	for i := range n {
		o := new(natsserver.Options)
		if config != "" {
			if err := o.ProcessConfigString(config); err != nil {
				t.Fatal(err)
			}
		}
		o.ServerName, o.Host, o.Port, o.NoSigs, o.NoLog = fmt.Sprint("node-", i), "127.0.0.1", -1, true, true
		o.JetStream, o.StoreDir, o.JetStreamMaxStore, o.JetStreamMaxMemory = true, t.TempDir(), 1<<32, 1<<30
		if n > 1 {
			o.Cluster = natsserver.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
			o.Routes = natsserver.RoutesFromStr(strings.Join(routes, ","))
		}
		all.options, all.all = append(all.options, o), append(all.all, nil)
	}
	for i := range n {
		all.start(i)
	}
	t.Cleanup(func() {
		for i := range all.all {
			all.kill(i)
		}
	})
	return all
}

func (n *nodes) start(i int) {
	n.Helper()
	s, err := natsserver.NewServer(n.options[i])
	if err != nil {
		n.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(limit) {
		n.Fatal("a node does not start")
	}
	n.all[i] = s
	n.options[i].Port = s.Addr().(*net.TCPAddr).Port
}

func (n *nodes) kill(i int) {
	if s := n.all[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		n.all[i] = nil
	}
}

func (n *nodes) urls() (all []string) {
	for _, s := range n.all {
		all = append(all, s.ClientURL())
	}
	return all
}

// proxy passes bytes on to a server, until it is told to hold them back.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	holds bool
	freed *sync.Cond
	open  []net.Conn
	ended sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l}
	p.freed = sync.NewCond(&p.mu)
	p.ended.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			p.mu.Lock()
			p.open = append(p.open, from, there)
			p.mu.Unlock()
			p.ended.Go(func() { p.pass(from, there) })
			p.ended.Go(func() { p.pass(there, from) })
		}
	})
	t.Cleanup(func() {
		p.hold(false)
		l.Close()
		p.mu.Lock()
		for _, c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.ended.Wait()
	})
	return p
}

func (p *proxy) pass(from, to net.Conn) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		for p.holds {
			p.freed.Wait()
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// hold holds all bytes back, or passes them on again.
func (p *proxy) hold(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = is
	p.freed.Broadcast()
}
