package api

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/towline/towline/stream"
)

// writeLimit is how long one write may take. Where net/http does not write, a
// reader that takes nothing for so long is disconnected before twice that time.
const writeLimit = 30 * time.Second

// outlet is an answer that goes on for long, each part of it sent at once.
type outlet struct {
	w       http.ResponseWriter
	control *http.ResponseController
	conn    net.Conn  // in the place of both, once it was taken over
	until   time.Time // the deadline of writes
	taken   func()    // called when conn is closed

	descriptor int // of conn, -1 where it is not a socket itself
}

// openOutlet sends the header of an answer of a media type. The caller closes
// the outlet, also after an error, which says that the reader has gone.
func (s *Server) openOutlet(w http.ResponseWriter, media string) (*outlet, error) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("X-Accel-Buffering", "no")
	o := &outlet{w: w, control: http.NewResponseController(w)}
	return o, o.control.Flush()
}

// openWire is openOutlet, but takes the connection over from net/http where it
// can: for as many readers as there may be of events. net/http holds twice the
// memory for each and a second goroutine, and takes half again as long for a
// write. Nothing is read from the connection any more: that the reader has gone
// is seen at the next write.
func (s *Server) openWire(w http.ResponseWriter, r *http.Request, media string) (*outlet, error) {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return s.openOutlet(w, media)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return s.openOutlet(w, media)
	}
	s.wires.Add(1)
	s.taken.Add(1)
	o := &outlet{taken: func() { s.taken.Add(-1); s.wires.Done() }} // net/http's are let go
	o.conn, o.descriptor = quiet(conn)
	header := w.Header().Clone()
	header.Set("Content-Type", media)
	header.Set("X-Accel-Buffering", "no")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	header.Set("Transfer-Encoding", "chunked")
	header.Set("Connection", "close")
	head := bytes.NewBufferString("HTTP/1.1 200 OK\r\n")
	header.Write(head)
	head.WriteString("\r\n")
	o.renew()
	_, err = o.conn.Write(head.Bytes())
	return o, err
}

// renew has the next write to conn end in time.
func (o *outlet) renew() {
	now := time.Now()
	if o.until.Sub(now) >= writeLimit {
		return
	}
	o.until = now.Add(2 * writeLimit)
	o.conn.SetWriteDeadline(o.until)
}

// batch sends events of a job. The error says that the reader has gone.
func (o *outlet) batch(b *stream.Batch, format stream.Format, job string) error {
	if o.conn == nil {
		return o.text(b.Bytes(format, job))
	}
	o.renew()
	_, err := o.conn.Write(b.Chunk(format, job))
	return err
}

// crowds reports whether another reader may write to the outlet, until it is
// written to by its own again.
func (o *outlet) crowds() bool { return o.conn != nil && o.descriptor >= 0 }

// rest sends the rest of what another reader has begun to write.
func (o *outlet) rest(p []byte) error {
	o.renew()
	_, err := o.conn.Write(p)
	return err
}

// text sends bytes. The error says that the reader has gone.
func (o *outlet) text(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if o.conn != nil {
		o.renew()
		_, err := fmt.Fprintf(o.conn, "%x\r\n%s\r\n", len(p), p)
		return err
	}
	if _, err := o.w.Write(p); err != nil {
		return err
	}
	return o.control.Flush()
}

// end says that the answer is whole.
func (o *outlet) end() {
	if o.conn != nil {
		o.renew()
		o.conn.Write([]byte("0\r\n\r\n"))
	}
}

// close ends the use of the connection for this answer.
func (o *outlet) close() {
	if o.conn != nil {
		o.conn.Close()
		o.taken()
	}
}
