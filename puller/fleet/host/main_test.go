package host_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/control"
	"github.com/towline/towline/puller/fleet/host"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // nearly all they do is wait
	goleak.VerifyTestMain(m)
}

const (
	limit = 30 * time.Second
	beat  = time.Second
	every = 100 * time.Millisecond // host.Options.Every
	web   = "registry.test/web:v1"
	db    = "registry.test/db:v1"
)

func digest(of string) string {
	sum := sha256.Sum256([]byte(of))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// registry is a puller.Registry that tests change.
type registry struct {
	puller.Registry
	mu     sync.Mutex
	tags   map[string]string
	asked  int
	before func(image string) // is called before an answer
}

func (r *registry) Head(_ context.Context, image string, _ puller.Credentials) (string, error) {
	r.mu.Lock()
	before := r.before
	r.asked++
	d := r.tags[image]
	r.mu.Unlock()
	if before != nil {
		before(image)
	}
	if d == "" {
		return "", puller.Errorf(puller.ErrNotFound, "there is no %s", image)
	}
	return d, nil
}

func (r *registry) Manifest(_ context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	d := names.ParseName(q.Image).Digest
	return puller.Manifest{Digest: d, Image: digest(d + q.Platform), Platform: q.Platform}, nil
}

func (r *registry) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// rig is a NATS server, controllers and hosts.
type rig struct {
	testing.TB
	fleet    string
	beat     time.Duration
	every    time.Duration // host.Options.Every
	registry registry
	log      *lines
	dir      string
	server   *server.Server
	port     int
}

// lines are a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// emptyRig returns a rig without a server.
func emptyRig(t testing.TB) *rig {
	r := &rig{TB: t, fleet: "ci", beat: beat, every: every, log: new(lines)}
	r.registry.tags = map[string]string{web: digest("web 1"), db: digest("db 1")}
	return r
}

func newRig(t testing.TB) *rig {
	r := emptyRig(t)
	r.dir, r.port = t.TempDir(), -1
	r.startServer()
	t.Cleanup(func() {
		r.stopServer()
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

func (r *rig) startServer() {
	r.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: r.port, JetStream: true, StoreDir: r.dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		r.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(limit) {
		r.Fatal("the server does not start")
	}
	r.server = s
	fmt.Sscanf(s.ClientURL()[strings.LastIndexByte(s.ClientURL(), ':')+1:], "%d", &r.port)
}

func (r *rig) stopServer() {
	r.server.Shutdown()
	r.server.WaitForShutdown()
}

// fakeLink is the connection of a daemon, with a session that nobody disputes.
type fakeLink struct {
	conn *nats.Conn
	rig  *rig

	mu      sync.Mutex
	state   fleet.Link
	changed chan struct{}
	end     func()
}

func (l *fakeLink) Conn() *nats.Conn { return l.conn }

func (l *fakeLink) Link() fleet.Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *fakeLink) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *fakeLink) set(state fleet.LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.State != state {
		l.state.Since = time.Now()
	}
	l.state.State, l.state.Reason = state, "the test has stopped it"
	close(l.changed)
	l.changed = make(chan struct{})
}

// run says who the host is, and beats, while it is connected.
func (l *fakeLink) run(ctx context.Context, identity fleet.Identity) {
	names := fleet.Subjects{Fleet: l.rig.fleet}
	for ctx.Err() == nil {
		key := fleet.Key(names.Reports(), identity.Name)
		_, err := l.conn.RequestWithContext(ctx, key, fleet.Encode(identity))
		if up := l.Link().State == fleet.LinkUp; up != (err == nil) && (err != nil || l.conn.IsConnected()) {
			if l.set(fleet.LinkUp); err != nil {
				l.set(fleet.LinkAway)
			}
		}
		for n := l.conn.Stats().Reconnects; ctx.Err() == nil && l.conn.IsConnected() && l.conn.Stats().Reconnects == n && l.Link().State == fleet.LinkUp; {
			l.conn.Publish(names.Beat(identity.Name), fleet.Encode(fleet.Beat{Session: identity.Session}))
			select {
			case <-ctx.Done():
			case <-time.After(l.rig.beat / 2):
			}
		}
		if l.Link().State == fleet.LinkUp {
			l.set(fleet.LinkAway)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connect connects a daemon. A controller that is no host has no identity.
func (r *rig) connect(id string, identity *fleet.Identity) *fakeLink {
	r.Helper()
	conn, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", r.port), nats.CustomInboxPrefix(fleet.InboxPrefix(id)), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(time.Millisecond, time.Millisecond), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1))
	if err != nil {
		r.Fatal(err)
	}
	l := &fakeLink{conn: conn, rig: r, state: fleet.Link{Fleet: r.fleet, Host: id, State: fleet.LinkUp, Controller: identity == nil}, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	if identity != nil {
		l.state.State = fleet.LinkAway
		ended.Go(func() { l.run(ctx, *identity) })
	} else {
		changes := conn.StatusChanged(nats.CONNECTED, nats.RECONNECTING)
		ended.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case s := <-changes:
					if l.set(fleet.LinkAway); s == nats.CONNECTED {
						l.set(fleet.LinkUp)
					}
				}
			}
		})
	}
	l.end = func() {
		cancel()
		ended.Wait()
		if identity != nil && conn.IsConnected() { // it leaves
			left := *identity
			left.Session = ""
			conn.Publish(fleet.Key(fleet.Subjects{Fleet: r.fleet}.Reports(), id), fleet.Encode(left))
			conn.Flush()
		}
		conn.Close()
	}
	return l
}

func (r *rig) logger(who string) logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(r.log)
	l.SetLevel(logrus.DebugLevel)
	return l.WithField("daemon", who)
}

// running is what Run was called of.
type running struct {
	link *fakeLink
	stop func() // is called once, and again at the end of the test
}

func (r *rig) run(l *fakeLink, run func(ctx context.Context) error) running {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { run(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		ended.Wait()
		l.end()
	})
	r.Cleanup(stop)
	return running{l, stop}
}

// kill ends a daemon without that it can say so.
func (v running) kill() {
	v.link.Conn().Close()
	v.stop()
}

type controller struct {
	*control.Controller
	running
}

func (r *rig) controller(id string) controller {
	r.Helper()
	l := r.connect(id, nil)
	c := control.New(control.Options{
		Link: l, Fleet: r.fleet, Host: id, Session: id + "-session", Registry: &r.registry, Beat: r.beat,
		Check: check, Log: r.logger(id),
	})
	v := controller{c, r.run(l, c.Run)}
	r.until("the controller knows its fleet", func() bool {
		_, err := c.Sets()
		return err == nil
	})
	return v
}

// check is CheckPrewarm of a daemon.
func check(p puller.PrewarmRequest) (puller.PrewarmRequest, error) {
	if len(p.Images) == 0 {
		return p, puller.Errorf(puller.ErrInvalidRequest, "images: missing; name at least one")
	}
	var faults puller.ImageFaults
	out := puller.Images{}
	for i, one := range p.Images {
		full, _, err := puller.ParseImage(one.Image)
		if err != nil {
			faults.Add(i, err)
		}
		one.Image = full
		out = append(out, one)
	}
	p.Images = out
	return p, faults.Err()
}

// until waits until something is so.
func (r *rig) until(what string, is func() bool) {
	r.Helper()
	late := time.After(limit)
	for !is() {
		select {
		case <-late:
			r.Fatalf("it is not so after %s: %s", limit, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// engine is a host.Sets, a host.Service and a host.Tagger in one: sets whose images a scripted
// engine has.
type engine struct {
	mu     sync.Mutex
	sets   map[string]keep.SetRequest
	here   map[string]string // digests by full name and by pinned reference
	jobs   map[string]puller.Job
	last   map[string]string // jobs by pinned reference
	gate   chan struct{}     // pulls wait for it, nil for none
	fail   map[string]error  // by repository
	forbid error
	wrong  string // the digest that jobs say, "" for the right one
	begun  int    // refreshes
	puts   int
	tags   []string
	ended  chan struct{} // see Ended
}

func newEngine() *engine {
	return &engine{sets: make(map[string]keep.SetRequest), here: make(map[string]string), jobs: make(map[string]puller.Job), last: make(map[string]string), fail: make(map[string]error), ended: make(chan struct{})}
}

func (e *engine) Ended() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended
}

// end says that a job has ended. mu is held.
func (e *engine) end() {
	close(e.ended)
	e.ended = make(chan struct{})
}

func (e *engine) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

func (e *engine) CheckPrewarm(p puller.PrewarmRequest) (puller.PrewarmRequest, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return p, e.forbid
}

func (e *engine) Job(id string) (puller.Job, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	j, ok := e.jobs[id]
	if !ok {
		return j, puller.Errorf(puller.ErrNotFound, "no job")
	}
	return j, nil
}

func (e *engine) Image(_ context.Context, name, _ string, _ puller.Rules) (puller.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.here[name]
	if d == "" {
		return puller.Image{}, puller.Errorf(puller.ErrNotFound, "no image")
	}
	return puller.Image{ID: d, RepoDigests: []string{names.ParseName(name).Repository + "@" + d}}, nil
}

func (e *engine) Tag(_ context.Context, image, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.here[name] = names.ParseName(image).Digest
	e.tags = append(e.tags, name)
	return nil
}

func (e *engine) PutOfFleet(name string, s keep.SetRequest, _ map[string]string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.puts++
	if e.forbid != nil {
		return e.forbid
	}
	e.sets[name] = s
	e.refresh(name)
	return nil
}

func (e *engine) DeleteOfFleet(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.sets[name]; !ok {
		return puller.Errorf(puller.ErrNotFound, "no set")
	}
	delete(e.sets, name)
	return nil
}

func (e *engine) RefreshSet(name string) (puller.Job, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refresh(name), nil
}

// refresh begins a job for each image. mu is held.
func (e *engine) refresh(name string) puller.Job {
	e.begun++
	for _, i := range e.sets[name].Images {
		n := names.ParseName(i.Image)
		id := fmt.Sprint("job-", len(e.jobs))
		e.jobs[id] = puller.Job{ID: id, State: puller.StateActive}
		e.last[i.Image] = id
		gate := e.gate
		go func() {
			if gate != nil {
				<-gate
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			defer e.end()
			if err := e.fail[n.Repository]; err != nil {
				e.jobs[id] = puller.Job{ID: id, State: puller.StateFailed, Error: &puller.JobError{Kind: puller.KindOf(err), Message: err.Error()}}
				return
			}
			said := n.Digest
			if e.wrong != "" {
				said = e.wrong
			}
			e.here[i.Image] = n.Digest
			e.jobs[id] = puller.Job{ID: id, State: puller.StateSucceeded, Result: &puller.Result{Digest: said}}
		}()
	}
	return puller.Job{}
}

func (e *engine) Sets() (all []keep.Set, _ []keep.SetFault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.sets {
		all = append(all, keep.Set{Name: name, Source: keep.SetFromFleet})
	}
	return all, nil
}

func (e *engine) Set(name string) (keep.Set, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.sets[name]
	if !ok {
		return keep.Set{}, puller.Errorf(puller.ErrNotFound, "no set")
	}
	v := keep.Set{Name: name, Source: keep.SetFromFleet, Counts: make(map[keep.SetState]int)}
	for _, i := range s.Images {
		id := e.last[i.Image]
		one := keep.SetImage{Image: i.Image, Platform: i.Platform, Job: id, State: keep.SetMissing}
		switch job := e.jobs[id]; {
		case job.State == puller.StateActive:
			one.State, v.Refreshes = keep.SetPulling, true
		case job.State == puller.StateFailed:
			one.State, one.Reason = keep.SetFailed, job.Error.Message
		case e.here[i.Image] != "":
			one.State, one.Digest = keep.SetPresent, e.here[i.Image]
		}
		v.Counts[one.State]++
		v.Images = append(v.Images, one)
	}
	return v, nil
}

// daemon is a host that runs.
type daemon struct {
	*host.Host
	running
	*engine
	options  host.Options
	identity fleet.Identity
}

func (r *rig) host(id string, change ...func(*fleet.Identity)) *daemon {
	r.Helper()
	e := newEngine()
	i := fleet.Identity{
		Format: fleet.Format, Session: id + "-1", Name: id, Platform: "linux/amd64", Labels: map[string]string{"role": "ci"}, Address: "10.0.0.1:7080",
	}
	for _, c := range change {
		c(&i)
	}
	d := &daemon{engine: e, identity: i, options: host.Options{
		Fleet: r.fleet, Host: id, Sets: e, Service: e, Tagger: e, Records: storetest.New().Records(), Every: r.every, Log: r.logger(id),
	}}
	r.begin(d)
	return d
}

// begin starts a host.
func (r *rig) begin(d *daemon) {
	r.Helper()
	l := r.connect(d.options.Host, &d.identity)
	d.options.Link = l
	d.options.Groups = host.OpenGroups(r.fleet, d.options.Host, d.options.Records, d.options.Log)
	d.Host = host.New(d.options)
	d.running = r.run(l, d.Run)
}

func (r *rig) hosts(n int) (all []*daemon) {
	for i := range n {
		all = append(all, r.host(fmt.Sprint("host-", i)))
	}
	return all
}

func images(names ...string) fleet.SetRequest {
	s := fleet.SetRequest{}
	for _, n := range names {
		s.Images = append(s.Images, puller.PullRequest{Image: n})
	}
	return s
}

// live waits until the controller hears so many hosts.
func (r *rig) live(c controller, n int) {
	r.Helper()
	r.until(fmt.Sprint(n, " hosts are live"), func() bool {
		all, err := c.Hosts()
		live := 0
		for _, h := range all {
			if h.Live {
				live++
			}
		}
		return err == nil && live == n
	})
}

// one starts a controller and a host, which has proven the set web.
func (r *rig) one() (controller, *daemon) {
	r.Helper()
	c := r.controller("main")
	h := r.hosts(1)[0]
	r.live(c, 1)
	if _, err := r.put(c, "web", images(web)); err != nil {
		r.Fatal(err)
	}
	return c, h
}

// put puts a set, and waits for it.
func (r *rig) put(c controller, name string, s fleet.SetRequest) (fleet.Set, error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	set, err := c.PutSet(ctx, name, s)
	if err != nil {
		r.Fatal(err)
	}
	set, err = c.Wait(ctx, name, set.Generation)
	if errors.Is(err, context.DeadlineExceeded) {
		r.Fatalf("it does not end: %+v", set)
	}
	return set, err
}

// is waits until a set has members in states.
func (r *rig) is(c controller, name string, want map[fleet.State]int) (s fleet.Set) {
	r.Helper()
	defer func() {
		if r.Failed() {
			r.Logf("the set is %+v", s)
		}
	}()
	r.until(fmt.Sprint(name, " is ", want), func() bool {
		var err error
		s, err = c.Set(name)
		if err != nil || len(s.Counts) != len(want) {
			return false
		}
		for state, n := range want {
			if s.Counts[state] != n {
				return false
			}
		}
		return true
	})
	return s
}
