package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
)

// period is how long the content of blobs is before it repeats. It is no power of two, so
// that bytes at a wrong place differ.
const period = 65521

var contents = func() []byte {
	p := make([]byte, period)
	x := uint32(1)
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return append(p, p...)
}()

// fill writes what blobs have at an offset.
func fill(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(p, contents[off%period:])
		p, off = p[n:], off+int64(n)
	}
}

// sink is a blob that checks what is written.
type sink struct {
	digest string
	size   int64

	mu      sync.Mutex
	there   []fetch.Range // ascending, that don't touch
	written int64         // with what came twice
	wanted  int64
	below   int
	corrupt int   // how often the digest is wrong
	err     error // of the next WriteAt
	wrong   bool  // a byte is
	before  func(off int64)
}

func newSink(digest string, size int64) *sink { return &sink{digest: digest, size: size, wanted: -1} }

func (s *sink) Digest() string { return s.digest }
func (s *sink) Size() int64    { return s.size }
func (s *sink) Below() int     { return s.below }

func (s *sink) Missing() (missing []fetch.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := int64(0)
	for _, r := range s.there {
		if r.From > at {
			missing = append(missing, fetch.Range{From: at, To: r.From})
		}
		at = r.To
	}
	if at < s.size {
		missing = append(missing, fetch.Range{From: at, To: s.size})
	}
	return missing
}

func (s *sink) add(r fetch.Range) {
	i := 0
	for i < len(s.there) && s.there[i].To < r.From {
		i++
	}
	j := i
	for j < len(s.there) && s.there[j].From <= r.To {
		r = fetch.Range{From: min(r.From, s.there[j].From), To: max(r.To, s.there[j].To)}
		j++
	}
	s.there = slices.Replace(s.there, i, j, r)
}

func (s *sink) WriteAt(p []byte, off int64) (int, error) {
	if s.before != nil {
		s.before(off)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if off < 0 || off+int64(len(p)) > s.size {
		s.wrong = true
		return 0, fmt.Errorf("%d bytes at %d of %d", len(p), off, s.size)
	}
	for rest, at := p, off; len(rest) > 0; {
		n := min(len(rest), period)
		s.wrong = s.wrong || !bytes.Equal(rest[:n], contents[at%period:at%period+int64(n)])
		rest, at = rest[n:], at+int64(n)
	}
	s.written += int64(len(p))
	s.add(fetch.Range{From: off, To: off + int64(len(p))})
	if s.corrupt > 0 && s.there[0] == (fetch.Range{From: 0, To: s.size}) {
		s.corrupt--
		s.there = nil
		return 0, puller.Errorf(puller.ErrCorrupt, "the digest of %s is wrong", s.digest)
	}
	return len(p), nil
}

func (s *sink) Wanted() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

func (s *sink) want(off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = off
}

// check checks that all of it is there.
func (s *sink) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size > 0 && (len(s.there) != 1 || s.there[0] != (fetch.Range{From: 0, To: s.size})) || s.wrong {
		t.Errorf("%s: there is %v of %d bytes, wrong: %v", s.digest, s.there, s.size, s.wrong)
	}
}

// request is one call of Blob.
type request struct {
	digest         string
	from, to, size int64
	n              int // it is the n-th call, from 0 on
	began          time.Time
	sent           int64 // bytes that were read
	closed         bool
}

// link is a puller.Repository whose connections have a rate.
type link struct {
	each, all float64       // bytes a second of one connection, and of all
	delay     time.Duration // before an answer
	// answer, if not nil, changes how a request is answered.
	answer func(r *request) (how, error)

	mu       sync.Mutex
	requests []*request
	open     int
	most     int // that were open at a time
	grown    int // how often there were more than six
}

// how says how a body comes.
type how struct {
	rate  float64       // bytes a second, 0 for the link's
	cut   int64         // after so many bytes, if not 0
	hang  bool          // after cut bytes; with cut 0 at once
	whole bool          // all of the blob comes
	delay time.Duration // before the first byte
}

func (l *link) Manifest(context.Context, string) (puller.RawManifest, error) {
	return puller.RawManifest{}, puller.Errorf(puller.ErrNotFound, "there is none")
}

func (l *link) Referrers(context.Context, string) (puller.RawManifest, error) {
	return puller.RawManifest{}, puller.Errorf(puller.ErrNotFound, "there are none")
}

func (l *link) Blob(ctx context.Context, digest string, from, to, size int64) (puller.BlobBody, error) {
	l.mu.Lock()
	r := &request{digest: digest, from: from, to: to, size: size, n: len(l.requests), began: time.Now()}
	l.requests = append(l.requests, r)
	if l.open++; l.open == 7 {
		l.grown++
	}
	l.most = max(l.most, l.open)
	l.mu.Unlock()
	err := sleep(ctx, l.delay)
	h := how{}
	if err == nil && l.answer != nil {
		h, err = l.answer(r)
	}
	if err != nil {
		l.close(r)
		return puller.BlobBody{}, err
	}
	b := &body{link: l, ctx: ctx, request: r, how: h, at: from, to: to}
	if h.whole {
		b.at, b.to = 0, size
	}
	return puller.BlobBody{ReadCloser: b, Whole: h.whole || from == 0 && to == size}, nil
}

func (l *link) close(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.closed {
		r.closed = true
		l.open--
	}
}

// sent returns how many bytes were read.
func (l *link) sent() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.requests {
		n += r.sent
	}
	return n
}

func (l *link) asked() []request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []request
	for _, r := range l.requests {
		all = append(all, *r)
	}
	return all
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return puller.Errorf(puller.ErrCanceled, "%w", ctx.Err())
	}
}

type body struct {
	link    *link
	ctx     context.Context
	request *request
	how     how
	at, to  int64
	sent    int64
}

func (b *body) Close() error { b.link.close(b.request); return nil }

func (b *body) Read(p []byte) (int, error) {
	if b.at == b.to {
		return 0, io.EOF
	}
	if err := sleep(b.ctx, b.how.delay); err != nil {
		return 0, err
	}
	b.how.delay = 0
	if b.how.hang && b.sent == b.how.cut {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	if b.how.cut > 0 && b.sent == b.how.cut {
		return 0, io.ErrUnexpectedEOF
	}
	rate, most := b.rate(), 64*kib
	switch {
	case rate > 5e6:
		most = 256 * kib
	case rate <= 100:
		most = 1
	case rate <= 100e3:
		most = 4 * kib
	}
	n := min(int64(len(p)), b.to-b.at, most)
	if b.how.cut > 0 {
		n = min(n, b.how.cut-b.sent)
	}
	if rate > 0 {
		if err := sleep(b.ctx, time.Duration(float64(n)/rate*float64(time.Second))); err != nil {
			return 0, err
		}
	}
	fill(p[:n], b.at)
	b.at += n
	b.sent += n
	b.link.mu.Lock()
	b.request.sent += n
	b.link.mu.Unlock()
	return int(n), nil
}

func (b *body) rate() float64 {
	if b.how.rate > 0 {
		return b.how.rate
	}
	b.link.mu.Lock()
	defer b.link.mu.Unlock()
	rate := b.link.each
	if b.link.all > 0 {
		rate = min(rate, b.link.all/float64(b.link.open))
	}
	return rate
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// fetchAll fetches sinks, and returns how long it took.
func fetchAll(t *testing.T, f *fetch.Fetcher, l puller.Repository, sinks ...*sink) (time.Duration, error) {
	t.Helper()
	w := fetch.Work{Repository: l, Registry: "a.test"}
	for _, s := range sinks {
		w.Sinks = append(w.Sinks, s)
	}
	began := time.Now()
	err := f.Fetch(t.Context(), w)
	if n := f.Stats().Connections; n != 0 {
		t.Errorf("%d connections after the end", n)
	}
	return time.Since(began), err
}
