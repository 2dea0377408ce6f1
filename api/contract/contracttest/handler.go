package contracttest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// Wrap returns a handler that answers as next does. At the end of the test it reports
// each request and answer that does not fit the contract. Streams are compared when they
// end.
func Wrap(t testing.TB, next http.Handler) http.Handler {
	t.Helper()
	h := &handler{contract: Load(), next: next}
	t.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, fault := range h.faults {
			t.Error(fault)
		}
	})
	return h
}

type handler struct {
	contract *Contract
	next     http.Handler

	mu     sync.Mutex
	faults []string
}

// maxFaults is how many faults are reported.
const maxFaults = 10

func (h *handler) check(e *exchange) {
	err := h.contract.checkExchange(e)
	if err == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.faults) < maxFaults {
		h.faults = append(h.faults, fmt.Sprintf("contract: %s %s %.300s\n%d %.2000s\n%.3000v", e.request.Method, e.request.URL, e.sent, e.status, e.body, err))
	}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	before := r.Clone(r.Context()) // handlers may change a request
	sent := &body{ReadCloser: r.Body}
	if r.Body != nil && r.Body != http.NoBody {
		r = r.WithContext(r.Context())
		r.Body = sent
	}
	a := &answer{ResponseWriter: w}
	a.hijacked = func(raw []byte) {
		e := &exchange{request: before, sent: sent.bytes()}
		if e.readAnswer(raw) == nil { // else the client has gone before the answer
			h.check(e)
		}
	}
	whole := false
	defer func() {
		if a.taken {
			return
		}
		e := &exchange{request: before, sent: sent.bytes(), status: a.status, header: w.Header().Clone(), body: a.body.Bytes(), cut: !whole || a.failed}
		if e.status == 0 {
			if e.cut || r.Context().Err() != nil {
				return // nobody gets an answer
			}
			e.status = http.StatusOK
		}
		h.check(e)
	}()
	h.next.ServeHTTP(a, r)
	whole = true
}

// body keeps what was read of a request's body.
type body struct {
	io.ReadCloser
	mu   sync.Mutex
	read bytes.Buffer
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read.Write(p[:n])
	return n, err
}

func (b *body) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.read.Bytes())
}

// answer keeps what is written.
type answer struct {
	http.ResponseWriter
	status   int
	body     bytes.Buffer
	failed   bool // a write has failed
	taken    bool // by Hijack
	hijacked func(raw []byte)
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(p)
	a.body.Write(p[:n])
	a.failed = a.failed || err != nil
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements http.Hijacker.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	a.taken = true
	return &connection{Conn: conn, closed: a.hijacked}, buffers, nil
}

// connection keeps what is written to a connection.
type connection struct {
	net.Conn
	mu      sync.Mutex
	written bytes.Buffer
	closed  func(raw []byte)
}

func (c *connection) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written.Write(p[:n])
	return n, err
}

func (c *connection) Close() error {
	c.mu.Lock()
	raw, closed := c.written.Bytes(), c.closed
	c.closed = nil
	c.mu.Unlock()
	if closed != nil {
		closed(raw)
	}
	return c.Conn.Close()
}
