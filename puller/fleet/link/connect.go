package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/fleet"
)

// pingEvery is how often the server is asked whether it is there. Without an answer to two,
// the connection is lost.
var pingEvery = 5 * time.Second

// Times of the connection.
const (
	dialLimit  = 5 * time.Second
	firstRetry = 200 * time.Millisecond
	maxRetry   = 10 * time.Second
	localRetry = time.Second // of a server in this process
)

// errNotYet is of the first try, which must not wait.
var errNotYet = errors.New("it connects")

// dialer connects to servers, until it is closed.
type dialer struct {
	ctx    context.Context
	close  context.CancelFunc
	begins atomic.Bool // the first try is over
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if !d.begins.Load() {
		return nil, errNotYet
	}
	plain := net.Dialer{Timeout: dialLimit}
	return plain.DialContext(d.ctx, network, address)
}

// connection is the connection to NATS. It connects again by itself, until it is closed.
type connection struct {
	nats   *nats.Conn
	log    logrus.FieldLogger
	dialer *dialer
	tries  chan nats.Status // each that has failed
	ended  prometheus.Counter

	woken chan struct{} // has one where the connection came, went or failed

	mu         sync.Mutex // guards what follows; no call is made while it is held
	fault      error      // of the last try to connect; nil while connected
	violations map[string]context.CancelCauseFunc
}

// connect begins to connect.
func connect(o Options, log logrus.FieldLogger) (*connection, error) {
	c := &connection{
		log: log, dialer: new(dialer), woken: make(chan struct{}, 1), violations: make(map[string]context.CancelCauseFunc),
		ended: prometheus.NewCounter(prometheus.CounterOpts{Name: "towline_fleet_disconnects_total", Help: "Connections to NATS that were lost."}),
	}
	c.dialer.ctx, c.dialer.close = context.WithCancel(context.Background())
	most := maxRetry
	options := []nats.Option{
		nats.Name("towline " + o.Host), nats.CustomInboxPrefix(fleet.InboxPrefix(o.Host)),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectBufSize(-1),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2), nats.Timeout(dialLimit),
		// The dialer looks names up: within its time, and not while it must not wait.
		nats.SetCustomDialer(c.dialer), nats.SkipHostLookup(),
		nats.ConnectHandler(func(*nats.Conn) { c.connected() }), nats.ReconnectHandler(func(*nats.Conn) { c.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.refused(err) }),
	}
	if o.Local != nil {
		options, most = append(options, nats.InProcessServer(o.Local)), localRetry
	}
	options = append(options, nats.CustomReconnectDelay(func(tries int) time.Duration {
		wait := min(firstRetry<<min(tries-1, 10), most)
		return wait/2 + rand.N(wait/2)
	}))
	if o.Creds.CA != "" {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(o.Creds.CA)) {
			return nil, errors.New("ca: it has no certificate in PEM")
		}
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}))
	}
	switch public, err := o.Creds.Public(); {
	case o.Creds.Seed == "":
	case err != nil:
		return nil, err
	case o.Creds.JWT != "":
		options = append(options, nats.UserJWT(func() (string, error) { return o.Creds.JWT, nil }, o.Creds.Sign))
	default:
		options = append(options, nats.Nkey(public, o.Creds.Sign))
	}
	conn, err := nats.Connect(strings.Join(o.Creds.URLs, ","), options...)
	if err != nil {
		return nil, err
	}
	c.nats, c.tries = conn, conn.StatusChanged(nats.RECONNECTING)
	c.dialer.begins.Store(true)
	return c, nil
}

// The handlers. nats.go calls them one after another.

func (c *connection) connected() {
	c.mu.Lock()
	c.fault = nil
	c.mu.Unlock()
	c.wake()
}

// follow hears of tries that have failed after a server was reached: in its certificate, or
// because it refuses the credentials. nats.go calls no handler for all of these.
func (c *connection) follow() {
	for range c.tries {
		if err := c.nats.LastError(); err != nil {
			c.failed(err)
		}
	}
}

func (c *connection) disconnected(err error) {
	if err == nil {
		err = errors.New("the connection was closed")
	}
	c.ended.Inc()
	c.failed(err)
}

func (c *connection) failed(err error) {
	if errors.Is(err, errNotYet) || errors.Is(err, fleet.ErrStarts) {
		return
	}
	c.mu.Lock()
	c.fault = err
	c.mu.Unlock()
	c.wake()
}

// lastFault returns why the last try to connect has failed, nil for nothing that is known.
func (c *connection) lastFault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// wake has Run look at the connection again.
func (c *connection) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// close ends the connection, and what it calls.
func (c *connection) close() {
	c.dialer.close()
	c.nats.RemoveStatusListener(c.tries)
	closed := make(chan struct{})
	c.nats.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if c.nats.IsClosed() {
		return
	}
	c.nats.Close()
	<-closed
}

// explain returns what a failed try to connect means, and what to do.
func explain(err error) (fleet.LinkState, string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case strings.Contains(strings.ToLower(err.Error()), "authorization violation"), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return fleet.LinkRefused, fmt.Sprintf("NATS refuses the credentials of fleet.creds (%v): they may have been withdrawn, replaced or expired, or this host may have sent too much; invite it again", err)
	case errors.As(err, &unknown):
		return fleet.LinkRefused, fmt.Sprintf("the server's certificate is not of the authority in fleet.creds: another server answers, or it has a new authority (%v); invite this host again", err)
	case errors.As(err, &name):
		return fleet.LinkRefused, fmt.Sprintf("the server's certificate is for other names than fleet.url has (%v)", err)
	}
	return fleet.LinkAway, err.Error()
}
