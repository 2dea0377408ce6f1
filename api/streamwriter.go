package api

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/towline/towline/stream"
)

// writeLimit is how long one write may take. On a connection that was hijacked,
// a reader that takes nothing for so long is disconnected before twice that time.
const writeLimit = 30 * time.Second

// streamWriter writes an answer that has no length, and sends each part at once.
// It writes through net/http, or to a connection that was hijacked.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController

	conn     net.Conn // nil unless it was hijacked
	deadline time.Time
	closed   func() // is called once conn is closed
}

// newStreamWriter sends the header of an answer of a media type. The caller
// closes the writer, also after an error. The error says that the reader has
// gone.
func newStreamWriter(w http.ResponseWriter, media string) (*streamWriter, error) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("X-Accel-Buffering", "no")
	s := &streamWriter{w: w, control: http.NewResponseController(w)}
	return s, s.control.Flush()
}

// hijack is newStreamWriter, but takes the connection over from net/http where
// it can. For each connection net/http holds twice the memory and a second
// goroutine. Nothing is read from the connection any more: only the next write
// shows that the reader has gone.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, media string) (*streamWriter, error) {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return newStreamWriter(w, media)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return newStreamWriter(w, media)
	}
	s.hijacks.Add(1)
	s.hijacked.Add(1)
	// A writer that kept w would keep net/http's buffers.
	out := &streamWriter{conn: conn, closed: func() { s.hijacked.Add(-1); s.hijacks.Done() }}
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

// batch sends the events of a batch. The error says that the reader has gone.
func (s *streamWriter) batch(b *stream.Batch, format *stream.Format, job string) error {
	if s.conn == nil {
		return s.text(b.Bytes(format, job))
	}
	return s.send(b.Chunk(format, job))
}

// text sends bytes. The error says that the reader has gone.
func (s *streamWriter) text(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if s.conn != nil {
		return s.send(fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p))
	}
	if _, err := s.w.Write(p); err != nil {
		return err
	}
	return s.control.Flush()
}

// end says that the answer is whole. Through net/http the handler's return says
// so.
func (s *streamWriter) end() {
	if s.conn != nil {
		s.send([]byte("0\r\n\r\n"))
	}
}

// send writes to the hijacked connection. A timer is set only once in a while:
// for most writes that would cost more than the write.
func (s *streamWriter) send(p []byte) error {
	if now := time.Now(); s.deadline.Sub(now) < writeLimit {
		s.deadline = now.Add(2 * writeLimit)
		s.conn.SetWriteDeadline(s.deadline)
	}
	_, err := s.conn.Write(p)
	return err
}

// close ends the use of the connection for this answer.
func (s *streamWriter) close() {
	if s.conn != nil {
		s.conn.Close()
		s.closed()
	}
}
