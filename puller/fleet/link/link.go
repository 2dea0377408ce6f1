// Package link joins a host to its fleet: it keeps one connection to NATS, and one session
// under the host's ID.
package link

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
)

// Options are the options of Open. Fleet, Host, Identity, Log and Metrics must be set, and
// Local or the URLs of Creds.
type Options struct {
	Fleet string
	Host  string // the ID of this host
	// Creds have the servers, and what this host shows to them. Without a seed, it shows
	// nothing.
	Creds creds.Creds
	// Local is the server in this process; nil for one elsewhere.
	Local nats.InProcessConnProvider
	// Identity returns what this host says of itself, but for Format and Session. It may
	// change.
	Identity func() fleet.Identity
	Log      logrus.FieldLogger
	Metrics  prometheus.Registerer
}

// Link is a host's connection to its fleet. Its methods may be called from anywhere.
type Link struct {
	options  Options
	subjects fleet.Subjects
	session  string
	log      logrus.FieldLogger
	conn     *nats.Conn
	tries    chan nats.Status // each that has failed
	dialer   *dialer
	up       prometheus.Gauge
	ended    prometheus.Counter

	// Of Run alone: what JetStream has of this session, and when it answered another one.
	held     uint64
	said     string
	answered time.Time

	woken chan struct{} // has one where the connection came, went or failed
	beats chan fleet.Beat

	mu         sync.Mutex
	state      fleet.Link
	changed    chan struct{} // closed when state changes
	fault      error         // of the last try to connect; nil while connected
	violations map[string]context.CancelCauseFunc
}

// Open returns a link that begins to connect. It waits for nothing. Run must be called.
func Open(o Options) (*Link, error) {
	l := &Link{
		options: o, subjects: fleet.Subjects{Fleet: o.Fleet}, session: ulid.Make().String(), log: o.Log.WithField("fleet", o.Fleet),
		woken: make(chan struct{}, 1), beats: make(chan fleet.Beat, 16),
		state:   fleet.Link{Fleet: o.Fleet, Host: o.Host, State: fleet.LinkAway, Reason: "it connects", Since: time.Now().UTC()},
		changed: make(chan struct{}), violations: make(map[string]context.CancelCauseFunc),
		up:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "towline_fleet_up", Help: "1 while this host is in its fleet, 0 while it is alone."}),
		ended: prometheus.NewCounter(prometheus.CounterOpts{Name: "towline_fleet_disconnects_total", Help: "Connections to NATS that were lost."}),
	}
	if err := l.connect(); err != nil {
		return nil, err
	}
	// The subscription lasts as long as the connection.
	if _, err := l.conn.Subscribe(l.subjects.Beat(o.Host), l.heard); err != nil {
		l.conn.Close()
		return nil, err
	}
	o.Metrics.MustRegister(l.up, l.ended)
	return l, nil
}

// Conn is the connection, for as long as Run runs. It connects again and again by itself,
// and keeps its subscriptions. Its methods wait while it dials: some seconds. What is
// published while it is away is refused, and not kept for later.
func (l *Link) Conn() *nats.Conn { return l.conn }

// Link returns how this host stands to its fleet.
func (l *Link) Link() fleet.Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Changed returns a channel that is closed when Link changes. Call it before Link.
func (l *Link) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Session is that of this run of the daemon.
func (l *Link) Session() string { return l.session }

// set changes the state.
func (l *Link) set(state fleet.LinkState, reason, server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.State == state && l.state.Reason == reason && l.state.Server == server {
		return
	}
	if l.state.State != state {
		l.state.Since = time.Now().UTC()
	}
	l.state.State, l.state.Reason, l.state.Server = state, reason, server
	close(l.changed)
	l.changed = make(chan struct{})
	if state == fleet.LinkUp {
		l.up.Set(1)
		l.log.WithField("server", server).Info("this host is in its fleet")
		return
	}
	l.up.Set(0)
	l.log.WithField("reason", reason).Warnf("this host goes on without its fleet: %s", state)
}

// setController says whether the credentials let this daemon change the fleet.
func (l *Link) setController(is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Controller != is {
		l.state.Controller = is
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// wake has Run look at the connection again.
func (l *Link) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// Run keeps the session until ctx ends, and closes the connection.
func (l *Link) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, l.dialer.close) // others wait while it dials
	defer stop()
	var followed sync.WaitGroup
	followed.Go(l.follow)
	defer func() {
		l.close()
		followed.Wait()
	}()
	for ctx.Err() == nil {
		if !l.conn.IsConnected() {
			l.sayAway()
			select {
			case <-l.woken:
			case <-ctx.Done():
			}
			continue
		}
		l.live(ctx)
	}
}

// close ends the connection, and what it calls.
func (l *Link) close() {
	l.dialer.close()
	l.conn.RemoveStatusListener(l.tries)
	closed := make(chan struct{})
	l.conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if l.conn.IsClosed() {
		return
	}
	l.conn.Close()
	<-closed
}
