// Package control is the controller of a fleet: it takes sets, pins them to digests, rolls
// them out, and tells how they stand. It implements fleet.Service.
package control

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
)

// Link is how this daemon is connected to its fleet.
type Link interface {
	Conn() *nats.Conn // always the same one; it connects again by itself
	Link() fleet.Link // LinkUp while NATS has this session of the host
	// Changed returns a channel that is closed when Link changes.
	Changed() <-chan struct{}
}

// Options are what a Controller needs.
type Options struct {
	Link     Link
	Fleet    string // its name
	Host     string // this host's ID
	Session  string // tells this run of the daemon from others
	Registry puller.Registry
	// Check checks images as a prewarm of this daemon would: puller.Service.CheckPrewarm.
	Check   func(puller.PrewarmRequest) (puller.PrewarmRequest, error)
	Inviter fleet.Inviter // nil for none
	Kept    func() int    // how many sets this host is to have; nil where that is not known
	// Beat is how often hosts beat, fleet.BeatEvery if it is 0. The lease of the controller
	// that acts follows from it, and how often it looks at what follows from time alone.
	Beat    time.Duration
	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
}

// Controller is the fleet.Service of a daemon: it answers requests, and has a leader act while
// NATS answers. On a daemon that is no controller it only says so.
type Controller struct {
	o     Options
	names fleet.Subjects
	state *state
	heard *listener

	mu      sync.Mutex // guards what follows; it is taken before that of state
	records *records   // nil while NATS does not answer
}

var _ fleet.Service = (*Controller)(nil)

// New returns a Controller. Run must be called for it to do anything.
func New(o Options) *Controller {
	if o.Beat == 0 {
		o.Beat = fleet.BeatEvery
	}
	c := &Controller{o: o, names: fleet.Subjects{Fleet: o.Fleet}, state: &state{wake: make(chan struct{}, 1), known: known.New()}}
	c.heard = &listener{o: o, names: c.names, state: c.state, logged: make(map[string]time.Time)}
	if o.Metrics != nil {
		o.Metrics.MustRegister(collector{c.state})
	}
	return c
}

// liveFor is how long after a beat a host counts as live, renewEvery how often the controller
// that acts renews its lease, and leaseFor how long another one sees no renewal before it takes
// over. Each is measured by one clock that does not jump: no times are compared between
// machines.
func (o Options) liveFor() time.Duration    { return o.Beat * 7 / 2 }
func (o Options) renewEvery() time.Duration { return o.Beat * 3 / 5 }
func (o Options) leaseFor() time.Duration   { return o.Beat * 12 / 5 }

// tickEvery is how often is looked at what follows from time alone, and retryEvery how long
// after a fault a session is tried again.
func (o Options) tickEvery() time.Duration  { return o.Beat / 5 }
func (o Options) retryEvery() time.Duration { return o.Beat * 2 / 5 }

// Run acts as a controller, while this daemon is one, until ctx ends. All that it starts has
// ended when it returns.
func (c *Controller) Run(ctx context.Context) error {
	defer c.state.close()
	fault := ""
	for ctx.Err() == nil {
		changed := c.o.Link.Changed()
		since, may := c.mayControl()
		if !may {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		err := c.serve(ctx, changed, since)
		c.mu.Lock()
		c.records = nil
		c.state.away()
		c.mu.Unlock()
		switch {
		case err == nil || ctx.Err() != nil:
			fault = ""
			continue
		case err.Error() != fault:
			fault = err.Error()
			c.o.Log.WithError(err).Warn("the fleet can't be controlled now; it is tried again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.o.retryEvery()):
		}
	}
	return nil
}

// mayControl reports whether this daemon can change its fleet now, and since when its link is
// up.
func (c *Controller) mayControl() (since time.Time, may bool) {
	l := c.o.Link.Link()
	return l.Since, l.Controller && l.State == fleet.LinkUp
}

// Link implements fleet.Service.
func (c *Controller) Link() fleet.Link {
	l := c.o.Link.Link()
	if c.o.Kept != nil {
		l.Sets = c.o.Kept()
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if l.Controller {
		l.Leader, l.Hosts = c.state.known.Leader, c.state.known.Live()
	}
	return l
}

// ready returns the records, or why nothing can be changed now.
func (c *Controller) ready() (*records, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	s := c.records
	c.mu.Unlock()
	switch l := c.o.Link.Link(); {
	case s != nil:
		return s, nil
	case l.State == fleet.LinkUp:
		return nil, puller.Overloaded("the state of the fleet %s is being read", c.o.Fleet)
	default:
		return nil, puller.Overloaded("the fleet %s can't be changed now, because NATS does not answer: %s", c.o.Fleet, l.Reason)
	}
}

// mayAct returns why this daemon says nothing of the fleet, nil if it does.
func (c *Controller) mayAct() error {
	l := c.o.Link.Link()
	c.state.mu.Lock()
	loaded := c.state.known.Loaded
	c.state.mu.Unlock()
	switch {
	case loaded && l.State != fleet.LinkRefused:
		return nil
	case l.State == fleet.LinkUp && l.Controller:
		return puller.Overloaded("the state of the fleet %s is being read", c.o.Fleet)
	case l.State == fleet.LinkUp:
		return puller.Errorf(puller.ErrForbidden, "this host is in the fleet %s, but its credentials don't let it control the fleet; ask a host that is a controller", c.o.Fleet)
	case l.State == fleet.LinkOff:
		return puller.Errorf(puller.ErrForbidden, "this host is in no fleet; set fleet.url or fleet.embedded")
	}
	return puller.Overloaded("NATS does not answer, so nothing is known of the fleet %s: %s", c.o.Fleet, l.Reason)
}
