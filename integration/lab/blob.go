package lab

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// blobWriter sends one blob, slowly or with a fault in it.
type blobWriter struct {
	http.ResponseWriter
	ctx     context.Context
	rate    *atomic.Int64
	held    *held // nil: not held
	corrupt bool
	count   func(n int64) // is told what was sent of the blob

	content bool  // the body is the blob, or a part of it
	sent    int64 // body bytes so far
	flip    int64 // offset of the byte to change
}

// WriteHeader finds the middle of the body, now that its length is known.
func (w *blobWriter) WriteHeader(status int) {
	length, _ := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	w.flip = length / 2
	w.content = status == http.StatusOK || status == http.StatusPartialContent
	w.ResponseWriter.WriteHeader(status)
}

// Write sends p piece by piece. Hiding the underlying ReadFrom is on purpose: the
// body must pass through here.
func (w *blobWriter) Write(p []byte) (int, error) {
	if i := w.flip - w.sent; w.corrupt && 0 <= i && i < int64(len(p)) {
		p = append([]byte(nil), p...) // the writer's bytes are not ours to change
		p[i] ^= 0xff
	}
	written := 0
	for written < len(p) {
		n, err := w.writePiece(p[written:])
		written += n
		w.sent += int64(n)
		if w.content {
			w.count(int64(n))
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// writePiece writes what is due in a fiftieth of a second, and waits that long. It
// stops where the blob is held.
func (w *blobWriter) writePiece(p []byte) (int, error) {
	if w.held != nil {
		if w.sent < w.held.after {
			p = p[:min(int64(len(p)), w.held.after-w.sent)]
		} else if err := w.wait(w.held.gate); err != nil {
			return 0, err
		}
	}
	rate := w.rate.Load()
	if rate <= 0 {
		return w.ResponseWriter.Write(p)
	}
	p = p[:min(int64(len(p)), max(1, rate/50))]
	n, err := w.ResponseWriter.Write(p)
	if err != nil {
		return n, err
	}
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return n, err
	}
	timer := time.NewTimer(time.Duration(n) * time.Second / time.Duration(rate))
	defer timer.Stop()
	select {
	case <-timer.C:
		return n, nil
	case <-w.ctx.Done():
		return n, w.ctx.Err()
	}
}

// wait sends what is in the server's buffers, and waits for the gate.
func (w *blobWriter) wait(gate <-chan struct{}) error {
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return err
	}
	select {
	case <-gate:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}
