package connections

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/towline/towline/stream"
)

// writeLimit is how long one write may take. On a connection that was hijacked,
// a reader that takes nothing for so long is disconnected before twice that time.
const writeLimit = 30 * time.Second

// Writer writes an answer that has no length, and sends each part at once.
// It writes through net/http, or to a connection that was hijacked.
type Writer struct {
	w       http.ResponseWriter
	control *http.ResponseController

	conn     net.Conn // nil unless it was hijacked
	deadline time.Time
	closed   func() // is called once conn is closed
}

// Hijacked reports whether the connection was taken over from net/http.
func (s *Writer) Hijacked() bool { return s.conn != nil }

// NewWriter sends the header of an answer of a media type through net/http. The
// error says that the reader has gone. The writer needs no Close.
func NewWriter(w http.ResponseWriter, media string) (*Writer, error) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("X-Accel-Buffering", "no")
	s := &Writer{w: w, control: http.NewResponseController(w)}
	return s, s.control.Flush()
}

// Batch sends the events of a batch. The error says that the reader has gone.
func (s *Writer) Batch(b *stream.Batch, format *stream.Format, job string) error {
	if s.conn == nil {
		return s.Text(b.Bytes(format, job))
	}
	return s.send(b.Chunk(format, job))
}

// Text sends bytes. The error says that the reader has gone.
func (s *Writer) Text(p []byte) error {
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

// End says that the answer is whole. Through net/http the handler's return says
// so.
func (s *Writer) End() {
	if s.conn != nil {
		s.send([]byte("0\r\n\r\n"))
	}
}

// send writes to the hijacked connection. A timer is set only once in a while:
// for most writes that would cost more than the write.
func (s *Writer) send(p []byte) error {
	if now := time.Now(); s.deadline.Sub(now) < writeLimit {
		s.deadline = now.Add(2 * writeLimit)
		s.conn.SetWriteDeadline(s.deadline)
	}
	_, err := s.conn.Write(p)
	return err
}

// Close ends the use of the connection for this answer.
func (s *Writer) Close() {
	if s.conn != nil {
		s.conn.Close()
		s.closed()
	}
}
