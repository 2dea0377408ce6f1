package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
)

// beatEvery is fleet.BeatEvery, but in tests.
var beatEvery = fleet.BeatEvery

// Times of a session.
const (
	// looksEvery is how many beats there are between two looks at whose session is kept.
	looksEvery = 6
	// sameLimit is how long another session on this machine has to answer: it has ended
	// nearly always. One on another machine has two beats.
	sameLimit   = 2 * time.Second
	askEvery    = 300 * time.Millisecond
	answerEvery = 100 * time.Millisecond // at most
	// maxClaims is how often a claim is tried at once.
	maxClaims = 10
	// firstClaim is how long a host that was refused waits at first. It doubles up to maxClaim.
	firstClaim, maxClaim = time.Second, 30 * time.Second
	// leaveLimit is how long the end of a session may take.
	leaveLimit = time.Second
)

// errLost is of a session that JetStream does not have any more.
var errLost = errors.New("another session has replaced this one, or NATS has lost it; it is claimed again")

// session is that of this run of the daemon, under the host's ID. Link.Run alone uses it, but
// for heard.
type session struct {
	options  Options
	subjects fleet.Subjects
	id       string
	log      logrus.FieldLogger
	conn     *connection
	status   *status
	beats    chan fleet.Beat // of this host, by whatever session

	// What JetStream has of this session, and when it answered another one.
	held     uint64
	said     string
	answered time.Time
}

func newSession(o Options, log logrus.FieldLogger, conn *connection, st *status) *session {
	return &session{
		options: o, subjects: fleet.Subjects{Fleet: o.Fleet}, id: ulid.Make().String(), log: log,
		conn: conn, status: st, beats: make(chan fleet.Beat, 16),
	}
}

// live claims the host's ID, and keeps the session, until the connection is lost or ctx
// ends.
func (s *session) live(ctx context.Context) {
	wait := firstClaim
	for ctx.Err() == nil && s.conn.nats.IsConnected() {
		err := s.join(ctx)
		if err == nil {
			wait = firstClaim
			s.status.set(fleet.LinkUp, "", s.server())
			err = s.hold(ctx)
		}
		if ctx.Err() != nil {
			s.leave()
			return
		}
		if errors.Is(err, errLost) {
			// Join says who has it. Where it is nobody, NATS may have lost all that this host said.
			s.status.set(fleet.LinkAway, err.Error(), "")
			continue
		}
		if err == nil {
			continue
		}
		s.status.set(s.explain(err))
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
		case <-s.conn.woken: // perhaps the connection is lost
		case <-pause.C:
		}
		pause.Stop()
		wait = min(2*wait, maxClaim)
	}
}

// explain returns what an error of join or hold means.
func (s *session) explain(err error) (state fleet.LinkState, reason, server string) {
	var taken *takenError
	switch {
	case errors.As(err, &taken):
		return fleet.LinkRefused, err.Error(), ""
	case errors.Is(err, ErrNotPermitted):
		return fleet.LinkRefused, fmt.Sprintf("the credentials are not those of the host %s of the fleet %s (%v); compare fleet.name and fleet.creds", s.options.Host, s.options.Fleet, err), ""
	case errors.Is(err, nats.ErrNoResponders):
		return fleet.LinkAway, fmt.Sprintf("NATS does not keep the fleet %s: no controller has made its buckets yet, JetStream is not there, or fleet.name is not right", s.options.Fleet), ""
	case errors.Is(err, context.DeadlineExceeded):
		return fleet.LinkAway, fmt.Sprintf("NATS is connected, but JetStream does not answer: %v", err), ""
	}
	return fleet.LinkAway, err.Error(), ""
}

// server is what Link calls the server.
func (s *session) server() string {
	if s.options.Local != nil {
		return "this daemon"
	}
	return s.conn.nats.ConnectedUrlRedacted()
}

// join makes the buckets where the credentials allow it, and claims the host's ID.
func (s *session) join(ctx context.Context) error {
	controller, err := s.isController(ctx)
	if err != nil {
		return err
	}
	if controller {
		if err := s.openBuckets(ctx); err != nil {
			return err
		}
	}
	s.status.setController(controller)
	return s.claim(ctx)
}

// isController reports whether the credentials let this daemon change the fleet.
func (s *session) isController(ctx context.Context) (bool, error) {
	if s.options.Creds.Host != "" { // an invitation says so
		return s.options.Creds.Controller, nil
	}
	_, err := s.conn.request(ctx, "$JS.API.STREAM.INFO."+fleet.Stream(s.subjects.Sets()), nil, nil)
	if errors.Is(err, ErrNotPermitted) {
		return false, nil
	}
	return err == nil, err
}

func (s *session) openBuckets(ctx context.Context) error {
	js, err := jetstream.New(s.conn.nats)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callLimit)
	defer cancel()
	for _, b := range buckets.All(s.subjects) {
		if err := buckets.Open(ctx, js, b); err != nil {
			return err
		}
	}
	return nil
}

// identity returns what this host says of itself.
func (s *session) identity() string {
	i := s.options.Identity()
	i.Format, i.Session = fleet.Format, s.id
	return string(fleet.Encode(i))
}

// hold beats until the session is lost, or NATS does not answer. The error is nil where the
// connection is lost.
func (s *session) hold(ctx context.Context) error {
	for n := 1; ; n++ {
		if err := s.beat(false); err != nil {
			return err
		}
		doubts, err := s.listen(ctx)
		if err != nil || !s.conn.nats.IsConnected() {
			return err
		}
		if now := s.identity(); now != s.said {
			err = s.keep(ctx, now, s.held)
		} else if doubts || n%looksEvery == 0 {
			err = s.look(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// listen waits until the next beat is due, or the connection is lost. It answers other
// sessions that ask, and reports whether it has heard of one.
func (s *session) listen(ctx context.Context) (doubts bool, err error) {
	jitter := beatEvery / 5
	due := time.NewTimer(beatEvery - jitter/2 + rand.N(jitter))
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return doubts, ctx.Err()
		case <-due.C:
			return doubts, nil
		case <-s.conn.woken:
			if !s.conn.nats.IsConnected() {
				return doubts, nil
			}
		case b := <-s.beats:
			if b.Session == s.id {
				continue
			}
			doubts = true
			// Anybody may have sent it: many of them are not to make this host send much.
			if now := time.Now(); b.Ask && now.Sub(s.answered) >= answerEvery {
				s.answered = now
				if err := s.beat(false); err != nil {
					return doubts, err
				}
			}
		}
	}
}

// look returns errLost if JetStream does not have what this session holds.
func (s *session) look(ctx context.Context) error {
	is, err := s.read(ctx)
	if err == nil && is.sequence != s.held {
		return errLost
	}
	return err
}

// beat tells the controllers, and other sessions of this host, that this one lives.
func (s *session) beat(ask bool) error {
	b := fleet.Beat{Session: s.id, Name: s.options.Identity().Name, Ask: ask}
	return s.conn.nats.Publish(s.subjects.Beat(s.options.Host), fleet.Encode(b))
}

// heard hears the beats of this host, its own too. Anybody may have sent them.
func (s *session) heard(m *nats.Msg) {
	b, err := fleet.ParseBeat(m.Data)
	if err != nil {
		return
	}
	select {
	case s.beats <- b:
	default: // too many to be true
	}
}

// leave has another session of this host follow at once.
func (s *session) leave() {
	if s.held == 0 || !s.conn.nats.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	i := s.options.Identity()
	i.Format, i.Session = fleet.Format, ""
	if err := s.keep(ctx, string(fleet.Encode(i)), s.held); err != nil {
		s.log.WithError(err).Debug("the session could not be ended")
	}
}
