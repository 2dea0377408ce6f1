package lab

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// LinkOptions are what a link is like. The zero value changes nothing.
type LinkOptions struct {
	// Listen is where the link listens, "127.0.0.1:0" if it is empty.
	Listen string
	// RTT is the round-trip time. Each direction takes half of it. A new connection
	// costs one more, as its handshake does.
	RTT time.Duration
	// PerConnection and Total are bytes a second from the target to the clients, of
	// one connection and of all of them. 0 is without limit.
	PerConnection, Total int64
}

// Link is a proxy for TCP that is as slow as a link to somewhere far away.
type Link struct {
	opts     LinkOptions
	target   string
	listener net.Listener
	total    *pace
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	passed   atomic.Int64 // bytes to the clients

	mu         sync.Mutex
	open, most int
	accepted   int
}

const (
	// quantum is how many bytes a link passes on at a time.
	quantum = 64 << 10
	// slack is for how much time a link catches up, when this machine was busy.
	slack = 20 * time.Millisecond
	// linkBuffer is what the kernel keeps of a connection to the target, in bytes. What
	// is in there was sent by the target, but did not pass the link.
	linkBuffer = 64 << 10
)

// StartLink starts a link to a target, "host:port".
func StartLink(target string, opts LinkOptions) (*Link, error) {
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("lab: link: %w", err)
	}
	l := &Link{opts: opts, target: target, listener: listener, total: &pace{rate: opts.Total}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(l.accept)
	return l, nil
}

// Addr is where the link listens, "host:port".
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Connections returns how many connections were made since the last call, and how
// many were open at a time at most.
func (l *Link) Connections() (made, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	made, most = l.accepted, l.most
	l.accepted, l.most = 0, l.open
	return made, most
}

// Passed returns how many bytes have come to the clients so far.
func (l *Link) Passed() int64 { return l.passed.Load() }

// Close cuts all connections, and returns when nothing is left of them.
func (l *Link) Close() error {
	l.cancel()
	err := l.listener.Close()
	l.work.Wait()
	return err
}

func (l *Link) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.work.Go(func() { l.serve(conn.(*net.TCPConn)) })
	}
}

// serve passes bytes on in both directions until both have ended, or one has failed.
func (l *Link) serve(client *net.TCPConn) {
	l.count(1)
	defer l.count(-1)
	defer client.Close()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(l.ctx, "tcp", l.target)
	if err != nil {
		return
	}
	defer conn.Close()
	target := conn.(*net.TCPConn)
	target.SetReadBuffer(linkBuffer)
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		target.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { l.pass(ctx, cancel, target, client, new(atomic.Int64), l.opts.RTT) })
	both.Go(func() {
		l.pass(ctx, cancel, client, target, &l.passed, 0, &pace{rate: l.opts.PerConnection}, l.total)
	})
	both.Wait()
}

func (l *Link) count(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += n
	l.most = max(l.most, l.open)
	l.accepted += max(0, n)
}

// stretch is bytes that are due at the other end at a time.
type stretch struct {
	length int
	due    time.Time
}

// pass copies from one end to the other, as fast as the paces let it, half a round-trip
// time late, and counts them. The first bytes are later by what first says. It calls cut,
// which ends ctx and both connections, where one of them has failed.
func (l *Link) pass(ctx context.Context, cut func(), to, from *net.TCPConn, count *atomic.Int64, first time.Duration, paces ...*pace) {
	// Enough for what is on its way at 1 GB/s: more would hide from the sender that the
	// receiver does not read.
	most := 4 + int(l.opts.RTT/2/(quantum*time.Nanosecond))
	held, err := newPipe(most * quantum)
	if err != nil {
		cut()
		return
	}
	defer held.close()
	way := make(chan stretch, most)
	var both errgroup.Group
	both.Go(func() error {
		err := l.deliver(ctx, to, held, way, count)
		if err != nil {
			cut() // nothing is read any more for one that has gone
		}
		return err
	})
	both.Go(func() error {
		defer close(way)
		return l.read(ctx, from, held, way, first, paces)
	})
	if both.Wait() != nil {
		cut()
	}
}

func (l *Link) read(ctx context.Context, from *net.TCPConn, held *pipe, way chan<- stretch, first time.Duration, paces []*pace) error {
	for {
		n, err := held.fill(from, quantum, ctx.Done())
		if n == 0 || err != nil {
			return err
		}
		for _, p := range paces {
			if err := p.wait(ctx, n); err != nil {
				return err
			}
		}
		select {
		case way <- stretch{n, time.Now().Add(l.opts.RTT/2 + first)}:
		case <-ctx.Done():
			return ctx.Err()
		}
		first = 0
	}
}

func (l *Link) deliver(ctx context.Context, to *net.TCPConn, held *pipe, way <-chan stretch, count *atomic.Int64) error {
	for s := range way {
		if err := sleep(ctx, time.Until(s.due)); err != nil {
			return err
		}
		if err := held.drain(to, s.length, func(n int) { count.Add(int64(n)) }); err != nil {
			return err
		}
	}
	return to.CloseWrite()
}

// pace is bytes a second, of all that wait for it.
type pace struct {
	rate int64 // 0: no limit

	mu   sync.Mutex
	next time.Time // when the next byte may pass
}

// wait waits until n bytes may pass.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 || n == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-slack); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
