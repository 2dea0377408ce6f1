package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
	"github.com/towline/towline/puller/fleet/known"
)

// records are the buckets of a fleet, while NATS answers: they are read and written for
// requests and for the leader.
type records struct {
	o     Options
	names fleet.Subjects
	state *state // takes up what is written

	js                                     jetstream.JetStream
	sets, desired, reports, leads, invited jetstream.KeyValue
}

// open opens the buckets, and makes those that are not there.
func open(ctx context.Context, conn *nats.Conn, o Options, st *state) (*records, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	s := &records{o: o, names: fleet.Subjects{Fleet: o.Fleet}, state: st, js: js}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	for _, config := range buckets.All(s.names) {
		if err := buckets.Open(ctx, js, config); err != nil {
			return nil, err
		}
	}
	for name, kv := range map[string]*jetstream.KeyValue{
		s.names.Sets(): &s.sets, s.names.Desired(): &s.desired, s.names.Reports(): &s.reports, s.names.Lead(): &s.leads, s.names.Invited(): &s.invited,
	} {
		if *kv, err = js.KeyValue(ctx, name); err != nil {
			return nil, fmt.Errorf("the bucket %s: %w", name, err)
		}
	}
	return s, nil
}

// read reads a set as it is kept now, nil for none, with its revision: that of its deletion,
// if it was deleted.
func (s *records) read(ctx context.Context, name string) (*known.Record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	all, err := s.sets.History(ctx, name) // with the deletion, which Get does not have
	switch {
	case isMissing(err), err == nil && len(all) == 0:
		return nil, 0, nil
	case err != nil:
		return nil, 0, s.unavailable("the set can't be read", err)
	}
	last := all[len(all)-1]
	if gone(last) {
		return nil, last.Revision(), nil
	}
	set, err := known.ReadSet(s.o.Fleet, name, last.Value())
	var format fleet.ErrFormat
	switch {
	case errors.As(err, &format):
		return nil, 0, puller.Errorf(puller.ErrConflict, "the set %s was put by a later Towline: %w", name, err)
	case err != nil:
		// What can't be read is replaced.
		return nil, last.Revision(), nil
	}
	return set.Record, last.Revision(), nil
}

// keep keeps a set in the place of a revision, 0 for none.
func (s *records) keep(ctx context.Context, name string, r *known.Record, revision uint64) error {
	next, err := known.NewSet(s.o.Fleet, name, r)
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if next.Revision, err = s.sets.Update(limit, name, fleet.Encode(r), revision); err != nil {
		return err
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.known.PutSet(name, next, next.Revision)
	s.state.nudge()
	return nil
}

// removeHost removes all that is kept of a host.
func (s *records) removeHost(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	stream, err := s.js.Stream(ctx, fleet.Stream(s.names.Reports()))
	if err != nil {
		return err
	}
	for _, key := range []string{id, id + ".>"} {
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(fleet.Key(s.names.Reports(), key))); err != nil {
			return err
		}
	}
	return s.desired.Delete(ctx, id)
}

// unavailable is the error of a call to NATS. One whose disk is full answers nothing.
func (s *records) unavailable(what string, err error) error {
	switch l := s.o.Link.Link(); {
	case l.State != fleet.LinkUp:
		return puller.Overloaded("%s, because NATS does not answer: %s", what, l.Reason)
	case errors.Is(err, context.DeadlineExceeded):
		return puller.Overloaded("%s: NATS is connected, but JetStream has not answered within %s: its disk may be full, or too few of its servers are there; its log says which", what, callLimit)
	}
	return puller.Overloaded("%s: NATS says: %w", what, err)
}

// isConflict reports whether a record has changed since it was read.
func isConflict(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch)
}

func isMissing(err error) bool {
	return errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted)
}
