package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
)

const (
	// openLimit is how long it may take to open or make the buckets.
	openLimit = 30 * time.Second
	// callLimit is how long a call of JetStream may take.
	callLimit = 10 * time.Second
	// loadLimit is how long the present state of the fleet may take to arrive.
	loadLimit = time.Minute
)

var errAway = errors.New("NATS was away")

// session is the buckets of a fleet, while NATS answers.
type session struct {
	js                                     jetstream.JetStream
	sets, desired, reports, leads, invited jetstream.KeyValue
}

// serve acts while the link is up since a time. Its error is nil after it was not.
func (c *Controller) serve(ctx context.Context, changed <-chan struct{}, since time.Time) error {
	conn := c.o.Link.Conn()
	s, err := c.open(ctx, conn)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				changed = c.o.Link.Changed()
				if now, may := c.mayControl(); !may || !now.Equal(since) {
					return errAway
				}
			}
		}
	})
	beats, err := conn.Subscribe(c.names.Beats(), c.hear)
	if err != nil {
		return fmt.Errorf("hear the hosts: %w", err)
	}
	defer beats.Unsubscribe()
	asks, err := conn.QueueSubscribe(c.names.Asks(), fleet.AskQueue, c.answer)
	if err != nil {
		return fmt.Errorf("hear the hosts: %w", err)
	}
	defer asks.Unsubscribe()
	group.Go(func() error { return c.follow(ctx, s) })
	err = group.Wait()
	if errors.Is(err, errAway) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// open opens the buckets, and makes those that are not there.
func (c *Controller) open(ctx context.Context, conn *nats.Conn) (*session, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	s := &session{js: js}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	for _, config := range buckets.All(c.names) {
		if err := buckets.Open(ctx, js, config); err != nil {
			return nil, err
		}
	}
	for name, kv := range map[string]*jetstream.KeyValue{
		c.names.Sets(): &s.sets, c.names.Desired(): &s.desired, c.names.Reports(): &s.reports, c.names.Lead(): &s.leads, c.names.Invited(): &s.invited,
	} {
		if *kv, err = js.KeyValue(ctx, name); err != nil {
			return nil, fmt.Errorf("the bucket %s: %w", name, err)
		}
	}
	return s, nil
}

// follow reads the state of the fleet, and leads if nobody else does, until ctx ends.
func (c *Controller) follow(ctx context.Context, s *session) error {
	c.mu.Lock()
	c.known.Reloading()
	c.mu.Unlock()
	fresh := make(map[string]bool)
	group, ctx := errgroup.WithContext(ctx)
	loading, loaded := context.WithTimeout(ctx, loadLimit)
	defer loaded()
	// In this order: reports of sets that there are not are left out.
	for _, w := range []struct {
		kv    jetstream.KeyValue
		apply func(jetstream.KeyValueEntry)
	}{{s.sets, c.applySet}, {s.invited, c.applyInvited}, {s.desired, c.applyDesired}, {s.reports, c.applyReport}} {
		watcher, err := w.kv.WatchAll(ctx)
		if err != nil {
			return fmt.Errorf("watch %s: %w", w.kv.Bucket(), err)
		}
		defer watcher.Stop()
		for initial := true; initial; {
			select {
			case e, ok := <-watcher.Updates():
				switch {
				case !ok:
					return fmt.Errorf("watch %s: it has ended", w.kv.Bucket())
				case e == nil:
					initial = false
				default:
					fresh[w.kv.Bucket()+"/"+e.Key()] = true
					w.apply(e)
				}
			case <-loading.Done():
				return fmt.Errorf("watch %s: %w", w.kv.Bucket(), loading.Err())
			}
		}
		group.Go(func() error {
			for {
				select {
				case e, ok := <-watcher.Updates():
					if !ok {
						return fmt.Errorf("watch %s: it has ended", w.kv.Bucket())
					}
					if e != nil {
						w.apply(e)
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
	}
	c.mu.Lock()
	c.known.DropOthers(fresh, c.names)
	c.known.Loaded, c.session = true, s
	c.known.Touch()
	c.mu.Unlock()
	group.Go(func() error { return c.lead(ctx, s) })
	group.Go(func() error { return c.act(ctx, s) })
	return group.Wait()
}

// hostOf takes the key of a report apart.
func hostOf(key string) (host, set string) {
	host, set, _ = strings.Cut(key, ".")
	return host, set
}
