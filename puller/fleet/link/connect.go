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
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

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

// connect begins to connect.
func (l *Link) connect() error {
	l.dialer = new(dialer)
	l.dialer.ctx, l.dialer.close = context.WithCancel(context.Background())
	o := l.options
	most := maxRetry
	options := []nats.Option{
		nats.Name("towline " + o.Host), nats.CustomInboxPrefix(fleet.InboxPrefix(o.Host)),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectBufSize(-1),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2), nats.Timeout(dialLimit),
		// The dialer looks names up: within its time, and not while it must not wait.
		nats.SetCustomDialer(l.dialer), nats.SkipHostLookup(),
		nats.ConnectHandler(func(*nats.Conn) { l.connected() }), nats.ReconnectHandler(func(*nats.Conn) { l.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.failed(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.refused(err) }),
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
			return errors.New("ca: it has no certificate in PEM")
		}
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}))
	}
	switch public, err := o.Creds.Public(); {
	case o.Creds.Seed == "":
	case err != nil:
		return err
	case o.Creds.JWT != "":
		options = append(options, nats.UserJWT(func() (string, error) { return o.Creds.JWT, nil }, o.Creds.Sign))
	default:
		options = append(options, nats.Nkey(public, o.Creds.Sign))
	}
	conn, err := nats.Connect(strings.Join(o.Creds.URLs, ","), options...)
	if err != nil {
		return err
	}
	l.conn, l.tries = conn, conn.StatusChanged(nats.RECONNECTING)
	l.dialer.begins.Store(true)
	return nil
}

// The handlers. nats.go calls them one after another.

func (l *Link) connected() {
	l.mu.Lock()
	l.fault = nil
	l.mu.Unlock()
	l.wake()
}

// follow hears of tries that have failed after a server was reached: in its certificate, or
// because it refuses the credentials. nats.go calls no handler for all of these.
func (l *Link) follow() {
	for range l.tries {
		if err := l.conn.LastError(); err != nil {
			l.failed(err)
		}
	}
}

func (l *Link) disconnected(err error) {
	if err == nil {
		err = errors.New("the connection was closed")
	}
	l.ended.Inc()
	l.failed(err)
}

func (l *Link) failed(err error) {
	if errors.Is(err, errNotYet) || errors.Is(err, fleet.ErrStarts) {
		return
	}
	l.mu.Lock()
	l.fault = err
	l.mu.Unlock()
	l.wake()
}

// sayAway says why there is no connection.
func (l *Link) sayAway() {
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	if fault == nil {
		return
	}
	state, reason := explain(fault)
	l.set(state, reason, "")
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
