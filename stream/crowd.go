package stream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// An Outlet is where a reader's bytes go, for as long as it is told together
// with others.
type Outlet struct {
	// Descriptor is that of a socket, which stays open and is not written to by
	// anyone else meanwhile.
	Descriptor int
	// TryWrite writes what can be written without waiting, which may be nothing.
	// It is the same for all readers.
	TryWrite func(descriptor int, p []byte) (n int, err error)
}

// crowd is the readers of a topic that are at one place and wait for the same.
// One of them, the leader, reads on and writes to all: for the others nobody
// wakes up, which costs more than a write does. What it needs of each is in one
// array: to fetch more than that from memory for each would cost as much again.
type crowd struct {
	mu      sync.Mutex
	led     bool
	at      cursor // where the leader is
	members []member
}

// member is one of a crowd that does not lead.
type member struct {
	descriptor int       // -1 once it is gone
	wake       chan turn // holds one
}

// turn is why a member goes on by itself.
type turn struct {
	at   cursor // its place, once it has written rest
	rest []byte
	err  error
	lead bool // it is to lead
}

// Join has the reader told together with others at its place, by one of them or
// by itself, for as long as out takes what is written without a wait. The reader
// is then at the place after rest, which it writes itself, and goes on by Next.
// It comes back at once where nobody is at its place. idle makes what is told
// when wait has passed without anything new. The error is as Next's, or out's.
func (s *Subscription) Join(ctx context.Context, wait time.Duration, format Format, job string, out Outlet, idle func() *Batch) (rest []byte, err error) {
	if s.Every > LayerInterval {
		return nil, nil
	}
	c := s.topic.crowd(format)
	c.mu.Lock()
	switch {
	case !c.led:
		c.led, c.at = true, s.at
		c.mu.Unlock()
	case c.at == s.at:
		m := member{descriptor: out.Descriptor, wake: make(chan turn, 1)}
		c.members = append(c.members, m)
		c.mu.Unlock()
		t := <-m.wake
		s.at = t.at
		if !t.lead {
			return t.rest, t.err
		}
	default:
		c.mu.Unlock()
		return nil, nil
	}
	return s.lead(ctx, wait, c, format, job, out, idle)
}

// lead reads on for a crowd until out can't be written to without a wait.
func (s *Subscription) lead(ctx context.Context, wait time.Duration, c *crowd, format Format, job string, out Outlet, idle func() *Batch) (rest []byte, err error) {
	well := false
	defer func() {
		if !well { // a panic must not leave the others asleep
			c.dissolve(s.at, errors.New("the reader that wrote for others has failed"))
		}
	}()
	for {
		b, err := s.Next(ctx, wait)
		switch {
		case ctx.Err() != nil:
			c.handOver()
			well = true
			return nil, err
		case err != nil:
			c.dissolve(s.at, err)
			well = true
			return nil, err
		case b == nil:
			b = idle()
		}
		chunk := b.Chunk(format, job)
		c.write(s.at, chunk, out.TryWrite)
		if n, err := out.TryWrite(out.Descriptor, chunk); n < len(chunk) || err != nil {
			c.handOver()
			well = true
			return chunk[n:], err
		}
	}
}

// write writes to all members what takes them to a place. Who can't take all of
// it is one no longer.
func (c *crowd) write(to cursor, chunk []byte, try func(int, []byte) (int, error)) {
	c.mu.Lock()
	c.at = to // who joins from now on has read this
	members := c.members
	c.mu.Unlock()
	slow := false
	for i := range members {
		if n, err := try(members[i].descriptor, chunk); n < len(chunk) || err != nil {
			members[i].descriptor, slow = -1, true
			members[i].wake <- turn{at: to, rest: chunk[n:], err: err}
		}
	}
	if slow {
		c.mu.Lock()
		defer c.mu.Unlock()
		// Who joined meanwhile may have made the array a new one.
		copy(c.members, members)
		c.members = slices.DeleteFunc(c.members, func(m member) bool { return m.descriptor < 0 })
	}
}

// handOver has another one lead, from where the crowd is.
func (c *crowd) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) == 0 {
		c.led = false
		return
	}
	last := len(c.members) - 1
	m := c.members[last]
	c.members = slices.Delete(c.members, last, last+1)
	m.wake <- turn{at: c.at, lead: true}
}

// dissolve has everyone go on by itself.
func (c *crowd) dissolve(at cursor, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		m.wake <- turn{at: at, err: err}
	}
	c.members, c.led = nil, false
}
