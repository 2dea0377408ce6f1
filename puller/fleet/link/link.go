// Package link joins a host to its fleet: it keeps one connection to NATS, and one session
// under the host's ID.
package link

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
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
	conn    *connection
	status  *status
	session *session
}

// Open returns a link that begins to connect. It waits for nothing. Run must be called.
func Open(o Options) (*Link, error) {
	log := o.Log.WithField("fleet", o.Fleet)
	conn, err := connect(o, log)
	if err != nil {
		return nil, err
	}
	l := &Link{conn: conn, status: newStatus(o, log)}
	l.session = newSession(o, log, conn, l.status)
	// The subscription lasts as long as the connection.
	if _, err := conn.nats.Subscribe(l.session.subjects.Beat(o.Host), l.session.heard); err != nil {
		conn.nats.Close()
		return nil, err
	}
	o.Metrics.MustRegister(l.status.up, conn.ended)
	return l, nil
}

// Conn is the connection, for as long as Run runs. It connects again and again by itself,
// and keeps its subscriptions. Its methods wait while it dials: some seconds. What is
// published while it is away is refused, and not kept for later.
func (l *Link) Conn() *nats.Conn { return l.conn.nats }

// Link returns how this host stands to its fleet.
func (l *Link) Link() fleet.Link {
	link, _ := l.status.get()
	return link
}

// Changed returns a channel that is closed when Link changes. Call it before Link.
func (l *Link) Changed() <-chan struct{} {
	_, changed := l.status.get()
	return changed
}

// Session is that of this run of the daemon.
func (l *Link) Session() string { return l.session.id }

// Request publishes a message, and returns the answer. The error is ErrNotPermitted at once
// where the credentials do not allow the subject, nats.ErrNoResponders where nobody listens,
// and context.DeadlineExceeded after five seconds.
func (l *Link) Request(ctx context.Context, subject string, header nats.Header, data []byte) (*nats.Msg, error) {
	return l.conn.request(ctx, subject, header, data)
}

// Run keeps the session until ctx ends, and closes the connection.
func (l *Link) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, l.conn.dialer.close) // others wait while it dials
	defer stop()
	var followed sync.WaitGroup
	followed.Go(l.conn.follow)
	defer func() {
		l.conn.close()
		followed.Wait()
	}()
	for ctx.Err() == nil {
		if !l.conn.nats.IsConnected() {
			if err := l.conn.lastFault(); err != nil {
				state, reason := explain(err)
				l.status.set(state, reason, "")
			}
			select {
			case <-l.conn.woken:
			case <-ctx.Done():
			}
			continue
		}
		l.session.live(ctx)
	}
}
