package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
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
		l.work.Go(func() { l.serve(conn) })
	}
}

// serve passes bytes on in both directions until both have ended, or one has failed.
func (l *Link) serve(client net.Conn) {
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
	both.Go(func() {
		if l.pass(ctx, target, client, new(atomic.Int64), l.opts.RTT) != nil {
			cancel()
		}
	})
	both.Go(func() {
		if l.pass(ctx, client, target, &l.passed, 0, &pace{rate: l.opts.PerConnection}, l.total) != nil {
			cancel()
		}
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

// piece is bytes that are due at the other end at a time.
type piece struct {
	memory *[quantum]byte
	length int
	due    time.Time
}

// pieces are the memory of pieces. A link is to take little of the processors, which a
// real one takes nothing of.
var pieces = sync.Pool{New: func() any { return new([quantum]byte) }}

// pass copies from one end to the other, as fast as the paces let it, half a round-trip
// time late, and counts them. The first bytes are later by what first says.
func (l *Link) pass(ctx context.Context, to, from net.Conn, count *atomic.Int64, first time.Duration, paces ...*pace) error {
	// Enough pieces for what is on its way at 1 GB/s: more would hide from the sender
	// that the receiver does not read.
	way := make(chan piece, 4+int(l.opts.RTT/2/(quantum*time.Nanosecond)))
	failed := make(chan error, 1)
	go func() {
		failed <- l.deliver(ctx, to, way, count)
		for range way { // the reader is not to wait for one that has gone
		}
	}()
	err := l.read(ctx, from, way, first, paces)
	close(way)
	return errors.Join(err, <-failed)
}

func (l *Link) read(ctx context.Context, from net.Conn, way chan<- piece, first time.Duration, paces []*pace) error {
	for {
		memory := pieces.Get().(*[quantum]byte)
		n, err := from.Read(memory[:])
		for _, p := range paces {
			if err := p.wait(ctx, n); err != nil {
				return err
			}
		}
		if n > 0 {
			way <- piece{memory, n, time.Now().Add(l.opts.RTT/2 + first)}
			first = 0
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *Link) deliver(ctx context.Context, to net.Conn, way <-chan piece, count *atomic.Int64) error {
	for p := range way {
		if err := sleep(ctx, time.Until(p.due)); err != nil {
			return err
		}
		n, err := to.Write(p.memory[:p.length])
		pieces.Put(p.memory)
		if count.Add(int64(n)); err != nil {
			return err
		}
	}
	return to.(*net.TCPConn).CloseWrite()
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
