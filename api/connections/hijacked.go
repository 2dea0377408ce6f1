package connections

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Hijacked are the connections that were taken over from net/http. The zero value is
// ready for use.
type Hijacked struct {
	open  sync.WaitGroup
	count atomic.Int64
}

// Writer is NewWriter, but takes the connection over from net/http where
// it can. For each connection net/http holds twice the memory and a second
// goroutine. Nothing is read from the connection any more: only the next write
// shows that the reader has gone. The caller closes the writer, also after an
// error.
func (h *Hijacked) Writer(w http.ResponseWriter, r *http.Request, media string) (*Writer, error) {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return NewWriter(w, media)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return NewWriter(w, media)
	}
	h.open.Add(1)
	h.count.Add(1)
	// A writer that kept w would keep net/http's buffers.
	out := &Writer{conn: conn, closed: func() { h.count.Add(-1); h.open.Done() }}
	header := w.Header().Clone()
	header.Set("Content-Type", media)
	header.Set("X-Accel-Buffering", "no")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	header.Set("Transfer-Encoding", "chunked")
	header.Set("Connection", "close")
	head := bytes.NewBufferString("HTTP/1.1 200 OK\r\n")
	header.Write(head)
	head.WriteString("\r\n")
	return out, out.send(head.Bytes())
}

// Count returns how many connections are taken over.
func (h *Hijacked) Count() int { return int(h.count.Load()) }

// Wait waits until all of them are closed, or for ctx.
func (h *Hijacked) Wait(ctx context.Context) {
	closed := make(chan struct{})
	go func() {
		h.open.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}
