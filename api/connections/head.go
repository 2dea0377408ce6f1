package connections

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
)

// CheckHeads returns a listener whose connections refuse requests that net/http accepts
// but proxies read in different ways (RFC 9112, 5.2 and 6.1): a header over several lines,
// a body with both a Content-Length and a Transfer-Encoding, and a Transfer-Encoding in
// HTTP/1.0. l may be a listener of crypto/tls. The connections are for NewServer.
func CheckHeads(l net.Listener) net.Listener { return headListener{l} }

type headListener struct{ net.Listener }

func (l headListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &headConn{Conn: c}, nil
}

// headConn checks what net/http reads. It makes a request that it refuses invalid.
// net/http answers the requests before it, and then answers with 400.
type headConn struct {
	net.Conn
	head head
}

func (c *headConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.head.check(p[:n])
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
		io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThe request came without TLS; use https://\n")
	}
	return n, err
}

// looksLikeHTTP reports whether the begin of a TLS record is an HTTP request.
func looksLikeHTTP(begin [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO"} {
		if string(begin[:]) == method {
			return true
		}
	}
	return false
}

// NetConn returns the inner connection.
func (c *headConn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets the server end an answer before it has read the whole request.
func (c *headConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

type tlsKey struct{}

// withTLS adds the TLS connection inside a connection of CheckHeads to a context, because
// net/http does not find it.
func withTLS(ctx context.Context, c net.Conn) context.Context {
	if h, ok := c.(*headConn); ok {
		if secure, ok := h.Conn.(*tls.Conn); ok {
			return context.WithValue(ctx, tlsKey{}, secure)
		}
	}
	return ctx
}

// setTLS sets Request.TLS from the connection of withTLS.
func setTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if secure, ok := r.Context().Value(tlsKey{}).(*tls.Conn); ok && r.TLS == nil {
			state := secure.ConnectionState()
			r.TLS = &state
		}
		next.ServeHTTP(w, r)
	})
}

// head parses the requests of a connection byte by byte. It keeps part of one line only.
type head struct {
	at     part
	line   []byte // the beginning of the request's line or of a name
	last   []byte // the end of the request's line
	left   int64  // bytes of the body or chunk
	length bool   // the head has a Content-Length
	coding bool   // the head has a Transfer-Encoding
	old    bool   // it is HTTP/1.0
}

type part int

const (
	requestLine part = iota
	lineBegin        // of a header
	name
	value       // of a header that does not describe the body
	lengthValue // of Content-Length
	body
	chunkSize
	chunkExtension
	chunk
	chunkEnd
	trailer      // the rest of a line after the last chunk
	trailerBegin // of a line after the last chunk
	unchecked    // the rest is refused, or is no HTTP
)

// invalidByte is not allowed in the name of a header.
const invalidByte = 0

// check parses p, and makes a request that it refuses invalid.
func (h *head) check(p []byte) {
	for i := 0; i < len(p); i++ {
		if h.at == body || h.at == chunk {
			n := min(h.left, int64(len(p)-i))
			h.left -= n
			i += int(n) - 1
			if h.left == 0 && h.at == body {
				*h = head{}
			} else if h.left == 0 {
				h.at = chunkEnd
			}
			continue
		}
		if h.at == unchecked {
			return
		}
		if !h.take(p[i]) {
			p[i] = invalidByte
			h.at = unchecked
		}
	}
}

// take parses one byte. It returns false if the request is to be refused at this byte.
func (h *head) take(c byte) bool {
	switch h.at {
	case requestLine:
		if c == '\n' {
			h.old = bytes.HasSuffix(bytes.TrimSuffix(h.last, []byte("\r")), []byte("HTTP/1.0"))
			h.at, h.last = lineBegin, nil
			return true
		}
		const most = len("HTTP/1.0\r")
		if h.last = append(h.last, c); len(h.last) > most {
			h.last = h.last[len(h.last)-most:]
		}
	case lineBegin:
		return h.begin(c)
	case name:
		return h.name(c)
	case lengthValue:
		switch {
		case c == '\n':
			h.at = lineBegin
		case '0' <= c && c <= '9' && h.left < 1<<58:
			h.left = h.left*10 + int64(c-'0')
		case c != ' ' && c != '\t' && c != '\r':
			h.at = unchecked // net/http refuses it
		}
	case value:
		if c == '\n' {
			h.at = lineBegin
		}
	default:
		h.chunked(c)
	}
	return true
}

// begin parses the first byte of a line of the head.
func (h *head) begin(c byte) bool {
	switch {
	case c == ' ' || c == '\t':
		return false // the previous header continues
	case c == '\r':
	case c != '\n':
		h.at, h.line = name, append(h.line[:0], c)
	case h.coding:
		h.at, h.left = chunkSize, 0
	case h.left > 0:
		h.at = body
	default:
		*h = head{}
	}
	return true
}

// name parses a byte of a header's name.
func (h *head) name(c byte) bool {
	switch {
	case c == '\n': // net/http refuses it
		h.at = unchecked
	case c != ':':
		if len(h.line) <= len("Transfer-Encoding") {
			h.line = append(h.line, c)
		}
	case bytes.EqualFold(h.line, []byte("Content-Length")):
		h.length, h.left, h.at = true, 0, lengthValue
		return !h.coding
	case bytes.EqualFold(h.line, []byte("Transfer-Encoding")):
		h.coding, h.at = true, value
		return !h.length && !h.old
	default:
		h.at = value
	}
	return true
}

// chunked parses a byte of a chunked body outside the content of chunks (RFC 9112, 7.1).
func (h *head) chunked(c byte) {
	switch h.at {
	case chunkSize, chunkExtension:
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		switch {
		case c == '\n' && h.left > 0:
			h.at = chunk
		case c == '\n':
			h.at = trailerBegin
		case h.at == chunkExtension || c == '\r':
		case '0' <= c && c <= '9':
			h.size(int64(c - '0'))
		case digit > 9:
			h.size(int64(digit))
		default:
			h.at = chunkExtension
		}
	case chunkEnd:
		if c == '\n' {
			h.at, h.left = chunkSize, 0
		}
	case trailerBegin:
		switch c {
		case '\n':
			*h = head{}
		case '\r':
		default:
			h.at = trailer
		}
	case trailer:
		if c == '\n' {
			h.at = trailerBegin
		}
	}
}

// size parses a digit of a chunk's size.
func (h *head) size(digit int64) {
	if h.left >= 1<<58 {
		h.at = unchecked // net/http refuses it
		return
	}
	h.left = h.left<<4 + digit
}
