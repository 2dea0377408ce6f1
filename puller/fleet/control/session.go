package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller/fleet"
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

// serve acts while the link is up since a time. Its error is nil after it was not.
func (c *Controller) serve(ctx context.Context, changed <-chan struct{}, since time.Time) error {
	conn := c.o.Link.Conn()
	s, err := open(ctx, conn, c.o, c.state)
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
	beats, err := conn.Subscribe(c.names.Beats(), c.heard.beat)
	if err != nil {
		return fmt.Errorf("hear the hosts: %w", err)
	}
	defer beats.Unsubscribe()
	asks, err := conn.QueueSubscribe(c.names.Asks(), fleet.AskQueue, c.heard.answer)
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

// follow reads the state of the fleet, and leads if nobody else does, until ctx ends.
func (c *Controller) follow(ctx context.Context, s *records) error {
	c.state.mu.Lock()
	c.state.known.Reloading()
	c.state.mu.Unlock()
	fresh := make(map[string]bool)
	group, ctx := errgroup.WithContext(ctx)
	loading, loaded := context.WithTimeout(ctx, loadLimit)
	defer loaded()
	// In this order: reports of sets that there are not are left out.
	for _, w := range []struct {
		kv    jetstream.KeyValue
		apply func(jetstream.KeyValueEntry)
	}{{s.sets, c.heard.set}, {s.invited, c.heard.invited}, {s.desired, c.heard.desired}, {s.reports, c.heard.report}} {
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
	c.mu.Lock() // who is told that the state is loaded may change it at once
	c.state.loaded(fresh, c.names)
	c.records = s
	c.mu.Unlock()
	l := &leader{o: c.o, state: c.state, heard: c.heard, records: s}
	group.Go(func() error { return l.lead(ctx) })
	group.Go(func() error { return l.act(ctx) })
	return group.Wait()
}

// hostOf takes the key of a report apart.
func hostOf(key string) (host, set string) {
	host, set, _ = strings.Cut(key, ".")
	return host, set
}
