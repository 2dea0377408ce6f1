package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// watchEvery is how often the server is looked at.
const watchEvery = time.Second

// watch looks at the server until ctx ends, or the server does not work any more. It ends
// the connections of hosts that send too much.
func (s *Server) watch(ctx context.Context, n *server.Server, said *natsLog) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if err := said.notWritten(); err != nil {
				return fmt.Errorf("%s can't be written to: %w", s.options.Dir, err)
			}
			if !n.JetStreamEnabled() || !n.Running() {
				return fmt.Errorf("NATS has stopped; it may have no rights to %s any more", s.options.Dir)
			}
			open, err := connections(n)
			if err != nil {
				return err
			}
			disconnect(n, s.users.count(open, now))
		}
	}
}

// trialSize is how many bytes a disk must have room for.
const trialSize = 1 << 20

// tryDisk returns why the directory can't be written to. NATS would start all the same.
func (s *Server) tryDisk() error {
	f, err := os.CreateTemp(s.options.Dir, "trial-*")
	if err == nil {
		defer os.Remove(f.Name())
		_, err = f.Write(make([]byte, trialSize))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("%s can't be written to: %w", s.options.Dir, err)
	}
	return nil
}

// connections returns what has come on each connection.
func connections(n *server.Server) (map[uint64]traffic, error) {
	open := make(map[uint64]traffic)
	for {
		page, err := n.Connz(&server.ConnzOptions{Offset: len(open), Limit: maxConnections})
		if err != nil {
			return nil, err
		}
		for _, c := range page.Conns {
			open[c.Cid] = traffic{c.InMsgs, c.InBytes}
		}
		if len(page.Conns) == 0 || len(open) >= page.Total {
			return open, nil
		}
	}
}
