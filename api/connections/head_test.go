package connections_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/towline/towline/api/connections"
)

// serveHeads serves a handler that reads each body, and returns its address.
func serveHeads(t *testing.T, secure *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := connections.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %q %v tls=%v", r.URL.Path, content, err, r.TLS != nil)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(connections.CheckHeads(l))
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return address
}

const closing = "Connection: close\r\n"

func TestHeads(t *testing.T) {
	address := serveHeads(t, nil)
	chunked := "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	last := "GET /last HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n"
	both := "POST /both HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	for _, c := range []struct {
		name, request string
		answers       []string // a path, or 400
	}{
		{"no body", last, []string{"/last"}},
		{"a body", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + last, []string{`/a "hello"`, "/last"}},
		{"an empty body", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + last, []string{`/a ""`, "/last"}},
		{"chunks", chunked + "5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n" + last, []string{`/a "hello0123456789"`, "/last"}},
		{"a trailer", chunked + "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n" + last, []string{`/a "x"`, "/last"}},
		{"lines without CR", strings.ReplaceAll("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"+last, "\r", ""), []string{`/a "hello"`, "/last"}},
		{"a body like a head", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\nA: b\r\n c\r\nA: b\r\n c\r\n\r\n" + last, []string{`/a "A: b\r\n c\r\nA: b\r\n c\r\n\r\n"`, "/last"}},
		{"both", both, []string{"400"}},
		{"both, the other way round", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", []string{"400"}},
		{"both, spelled otherwise", "POST /a HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:5\r\ntransfer-encoding:\tchunked:\r\n\r\n0\r\n\r\n", []string{"400"}},
		{"both, after a request", "GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + both, []string{`/a ""`, "400"}},
		{"both, after a body", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + both, []string{`/a "hello"`, "400"}},
		{"both, after chunks", chunked + "5\r\nhello\r\n0\r\n\r\n" + both, []string{`/a "hello"`, "400"}},
		{"two lengths", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", []string{"400"}},
		{"a length that is none", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nhello", []string{"400"}},
		{"a coding of old", "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{"400"}},
		{"a folded header", "GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", []string{"400"}},
		{"a header folded at a colon", "GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc: d\r\n\r\n", []string{"400"}},
		{"a folded Host", "GET /a HTTP/1.1\r\nHost:\r\n x\r\n\r\n", []string{"400"}},
		{"a folded header without CR", "GET /a HTTP/1.1\nHost: x\nA: b\n c\n\n", []string{"400"}},
		{"a head that begins folded", "GET /a HTTP/1.1\r\n Host: x\r\n\r\n", []string{"400"}},
	} {
		for _, pieces := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/pieces=%v", c.name, pieces), func(t *testing.T) {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				var request io.Reader = strings.NewReader(c.request)
				if pieces {
					request = iotest.OneByteReader(request)
				}
				io.CopyBuffer(struct{ io.Writer }{conn}, request, make([]byte, 64<<10))
				in := bufio.NewReader(conn)
				for _, want := range c.answers {
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatalf("there is no answer %s: %v", want, err)
					}
					content, _ := io.ReadAll(resp.Body)
					if got := fmt.Sprint(resp.StatusCode, " ", string(content)); !strings.HasPrefix(got, want) && !strings.HasPrefix(got, "200 "+want) {
						t.Errorf("the answer is %q, not %s", got, want)
					}
				}
				if rest, _ := io.ReadAll(in); len(rest) > 0 {
					t.Errorf("there is more: %q", rest)
				}
			})
		}
	}
}

func TestHeadsUnderTLS(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	config := cert.TLS.Clone()
	cert.Close()
	config.NextProtos = []string{"http/1.1"}
	address := serveHeads(t, config)
	for request, want := range map[string]string{
		"GET /a HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n":                                                              "tls=true",
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n" + closing + "\r\n0\r\n\r\n": "400 Bad Request",
		"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n" + closing + "\r\n":                                                "400 Bad Request",
	} {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request)
		if answer, err := io.ReadAll(conn); !strings.Contains(string(answer), want) {
			t.Errorf("%q is answered %q, %v", request, answer, err)
		}
		conn.Close()
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), "without TLS") {
		t.Errorf("a request without TLS is answered %q", answer)
	}
}

// What net/http takes for a request without a fault is not spoiled: the same
// bytes, in the same pieces or others, give the same requests.
func FuzzHeads(f *testing.F) {
	for _, s := range []string{"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, sent string, size uint8) {
		whole := connections.CheckedHead([]byte(sent), len(sent)+1)
		if pieces := connections.CheckedHead([]byte(sent), int(size)+1); string(whole) != string(pieces) {
			t.Errorf("in pieces of %d it is %q, not %q", size, pieces, whole)
		}
		if string(whole) == sent {
			return
		}
		in := bufio.NewReader(strings.NewReader(sent))
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			raw := sent
			folded := strings.Contains(raw, "\n ") || strings.Contains(raw, "\n\t")
			lower := strings.ToLower(raw)
			if !folded && !strings.Contains(lower, "transfer-encoding") {
				t.Fatalf("%q was spoiled: %q", sent, whole)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
	})
}
