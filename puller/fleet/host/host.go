// Package host is a host's side of a fleet: it reads what the host is to have, has it kept as
// sets of its own, and reports what is proven.
package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// Link is how this daemon is connected to its fleet.
type Link interface {
	Conn() *nats.Conn // always the same one; it connects again by itself
	Link() fleet.Link // LinkUp while NATS has this session of the host
	// Changed returns a channel that is closed when Link changes.
	Changed() <-chan struct{}
}

// Sets are the sets of images that this host keeps.
type Sets interface {
	Sets() ([]keep.Set, []keep.SetFault)
	Set(name string) (keep.Set, error)
	RefreshSet(name string) (puller.Job, error)
	// Ended returns a channel that is closed when the next job of a set has ended.
	Ended() <-chan struct{}
	PutOfFleet(name string, r keep.SetRequest, tags map[string]string) error
	DeleteOfFleet(name string) error
}

// Service is what a Host asks of a puller.Service.
type Service interface {
	Job(id string) (puller.Job, error)
	Image(ctx context.Context, name, platform string, own puller.Rules) (puller.Image, error)
	CheckPrewarm(r puller.PrewarmRequest) (puller.PrewarmRequest, error)
}

// Records keep what a host is to have over a restart.
type Records interface {
	Load(kind string) (map[string][]byte, error)
	Save(kind string, values map[string][]byte) error
	Delete(kind string, keys []string) error
}

// Tagger gives images names. See docker.Engine.
type Tagger interface {
	Tag(ctx context.Context, image, name string) error
}

// Options are what a Host needs.
type Options struct {
	Link  Link
	Fleet string // its name
	Host  string // this host's ID

	Sets    Sets
	Service Service
	Tagger  Tagger
	Records Records
	Groups  *Groups
	// Every is how often a set that is not at an end is looked at, and reported; 1 s if it is 0.
	// A fifth of it is how often NATS is written to at most.
	Every   time.Duration
	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
}

const (
	restEvery   = 15 * time.Second // sets that are at an end are looked at
	resyncEvery = 5 * time.Minute  // what it is to have is read again, and how it stands is said again
	callLimit   = 5 * time.Second
	// A hint comes before what it tells of is on the disk of NATS. So a part of Every is waited
	// before the first look, and four times as long before each next one.
	looksAfterHint, hintDelay = 4, 20
	recordKind                = "fleet-desired" // what this host is to have, by fleet
)

// Host is this host in its fleet.
type Host struct {
	o     Options
	names fleet.Subjects
	hints chan struct{} // has something in it after what this host is to have may have changed

	table    *table
	desired  *desired
	prover   *prover
	reporter *reporter
	asker    *asker

	talks string // why what it is to have was not read, as it was logged; only Run uses it
}

// New returns a Host. Run must be called for it to do anything.
func New(o Options) *Host {
	if o.Every == 0 {
		o.Every = time.Second
	}
	h := &Host{
		o: o, names: fleet.Subjects{Fleet: o.Fleet}, hints: make(chan struct{}, 1),
		table: &table{kicks: make(chan struct{}, 1), news: make(chan struct{}, 1), sets: make(map[string]*local)},
	}
	h.desired = &desired{o: o, names: h.names, table: h.table}
	h.asker = &asker{o: o, names: h.names, table: h.table}
	h.prover = &prover{o: o, table: h.table, asker: h.asker}
	h.reporter = &reporter{o: o, names: h.names, table: h.table}
	if o.Metrics != nil {
		o.Metrics.MustRegister(collector{h.table})
	}
	return h
}

// Run keeps this host as its fleet wants it until ctx ends. While NATS is away, it keeps what
// it was to have last.
func (h *Host) Run(ctx context.Context) error {
	h.desired.restore()
	var group errgroup.Group
	group.Go(func() error {
		h.prover.look(ctx)
		return nil
	})
	for ctx.Err() == nil {
		changed := h.o.Link.Changed()
		up := h.o.Link.Link()
		if up.State != fleet.LinkUp {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		err := h.serve(ctx, changed, up.Since)
		h.asker.joined.Store(false)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if text := err.Error(); text != h.talks {
			h.talks = text
			h.o.Log.WithError(err).Warn("what the fleet has for this host can't be read; it keeps what it was to have last")
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(5 * h.o.Every)):
		}
	}
	return group.Wait()
}

// Sets returns how many sets the fleet has for this host.
func (h *Host) Sets() int { return h.table.size() }

// serve reads and reports while the link is up since a time.
func (h *Host) serve(ctx context.Context, changed <-chan struct{}, since time.Time) error {
	conn := h.o.Link.Conn()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	// Any host can have NATS send such a message, with what it likes in it: it names the subject
	// as the one that is to have the answer to a question of its own. So it is a hint, and what
	// counts is what JetStream has.
	news, err := conn.Subscribe(fleet.Key(h.names.Desired(), h.o.Host), func(*nats.Msg) {
		select {
		case h.hints <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer news.Unsubscribe()
	h.table.forgetSaid()
	h.asker.joined.Store(true)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.reporter.run(ctx, js) })
	group.Go(func() error { return h.asker.ask(ctx, conn) })
	group.Go(func() error {
		resync := time.NewTimer(0)
		defer resync.Stop()
		looks := 0 // after a hint; a replica that answers may be behind
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				changed = h.o.Link.Changed()
				if l := h.o.Link.Link(); l.State != fleet.LinkUp || !l.Since.Equal(since) {
					return errAway
				}
			case <-h.hints:
				looks = looksAfterHint
				resync.Reset(jitter(h.o.Every / hintDelay))
			case <-resync.C:
				if looks == 0 {
					h.table.forgetSaid() // NATS may have lost it, and others may have written it
				}
				news, err := h.desired.resync(ctx, looks == 0)
				if err != nil {
					return err
				}
				h.talks = ""
				if looks--; news || looks <= 0 {
					looks = 0
					resync.Reset(jitter(resyncEvery))
				} else {
					resync.Reset(jitter(h.o.Every / hintDelay << (2 * (looksAfterHint - looks))))
				}
				select { // whoever sends many hints gets few looks
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(h.o.Every / 5):
				}
			}
		}
	})
	err = group.Wait()
	if errors.Is(err, errAway) || errors.Is(err, context.Canceled) {
		return nil // the link says why
	}
	return err
}

var errAway = errors.New("NATS was away")

// jitter spreads what hosts do: by up to a tenth.
func jitter(d time.Duration) time.Duration { return d - d/20 + rand.N(d/10) }
