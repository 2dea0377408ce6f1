package api_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/contract/contracttest"
)

// limited serves the API on a listener with a limit on its connections.
type limited struct {
	t       *testing.T
	address net.Addr
}

func (d *daemon) limited(l net.Listener, limit int) *limited {
	d.T.Helper()
	address := l.Addr()
	log := logrus.New()
	log.SetOutput(d.Logs)
	content := everyone() + authtest.Listed("second", "canary-second", "read")
	tokens := authtest.Open(d.T, authtest.File(d.T, content), d.Logs)
	handler := api.New(d.Service, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Tokens: tokens})
	server := connections.NewServer(contracttest.Wrap(d.T, handler))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(connections.CheckHeads(connections.Limit(l, limit))) })
	d.T.Cleanup(func() {
		d.ShutDown()
		server.Close()
		serving.Wait()
		handler.Wait(d.T.Context())
	})
	return &limited{d.T, address}
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// client is one connection from 127.0.0.N.
type client struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (l *limited) dial(n byte) *client {
	l.t.Helper()
	c, err := l.tryDial(n)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

func (l *limited) tryDial(n byte) (*client, error) {
	var from net.Addr
	if l.address.Network() == "tcp" {
		from = &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}
	}
	conn, err := (&net.Dialer{LocalAddr: from}).DialContext(l.t.Context(), l.address.Network(), l.address.String())
	if err != nil {
		return nil, err
	}
	l.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(limit))
	return &client{conn, l.t, bufio.NewReader(conn)}, nil
}

// checkRefused opens a connection that the daemon closes at once.
func (l *limited) checkRefused(n byte) {
	l.t.Helper()
	if c, err := l.tryDial(n); err == nil { // else it was reset before the dial returned
		c.checkClosed()
	}
}

// get makes a request and reads the answer, of a stream only the header.
func (c *client) get(path, token string) *http.Response {
	c.t.Helper()
	header := ""
	if token != "" {
		header = "Authorization: Bearer " + token + "\r\n"
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, header)
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	if resp.ContentLength >= 0 {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		resp.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	return resp
}

// checkStatus makes a request.
func (c *client) checkStatus(path, token string, status int) {
	c.t.Helper()
	if resp := c.get(path, token); resp.StatusCode != status {
		c.t.Errorf("GET %s with %q is %s, want %d", path, token, resp.Status, status)
	}
}

// checkClosed waits until the daemon closes the connection.
func (c *client) checkClosed() {
	c.t.Helper()
	_, err := c.in.ReadByte()
	if timeout := net.Error(nil); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Errorf("the connection is open: %v", err)
	}
}

func TestConnections(t *testing.T) {
	t.Run("stranger", func(t *testing.T) {
		l := start(t).limited(listenTCP(t), 16)
		for path, status := range map[string]int{"/healthz": 200, "/v1/jobs": 401, "/nope": 401, "/v1/jobs?token=x": 400} {
			c := l.dial(1)
			if resp := c.get(path, ""); resp.StatusCode != status || !resp.Close {
				t.Errorf("GET %s is %s, closed: %v", path, resp.Status, resp.Close)
			}
			c.checkClosed()
		}
		c := l.dial(1)
		for range 3 {
			if resp := c.get("/v1/session", reader); resp.StatusCode != 200 || resp.Close {
				t.Errorf("a known caller's connection: %s, closed: %v", resp.Status, resp.Close)
			}
		}
	})
	t.Run("address", func(t *testing.T) {
		l := start(t).limited(listenTCP(t), 16)
		var first [4]*client
		for i := range first {
			first[i] = l.dial(2)
		}
		l.checkRefused(2)
		l.dial(3).checkStatus("/v1/session", reader, 200)
		// Connections of known callers do not count for the address.
		for _, c := range first {
			c.checkStatus("/v1/session", reader, 200)
		}
		l.dial(2).checkStatus("/v1/session", boss, 200)
	})
	t.Run("oldest stranger", func(t *testing.T) {
		l := start(t).limited(listenTCP(t), 8)
		var all []*client
		for i := range byte(8) {
			all = append(all, l.dial(2+i/2))
		}
		admin := l.dial(9)
		admin.checkStatus("/v1/session", boss, 200)
		all[0].checkClosed()
		all[1].checkStatus("/healthz", "", 200)
	})
	t.Run("caller", func(t *testing.T) {
		l := start(t).limited(listenTCP(t), 8)
		var all []*client
		for i := range byte(4) {
			c := l.dial(2 + i)
			c.checkStatus([]string{"/v1/session", "/v1/events"}[i%2], reader, 200)
			all = append(all, c)
		}
		c := l.dial(7)
		resp := c.get("/v1/session", reader)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(string(body), `"overloaded"`) || !strings.Contains(string(body), "limits.connections") {
			t.Errorf("a caller with half of the connections gets %s, %s", resp.Status, body)
		}
		c.checkClosed()
		l.dial(7).checkStatus("/v1/session", "canary-second", 200)
		all[0].Close()
		for until := time.Now().Add(limit); l.dial(7).get("/v1/session", reader).StatusCode != 200; {
			if time.Now().After(until) {
				t.Fatal("the share of a closed connection stays taken")
			}
		}
	})
	t.Run("caller behind a proxy", func(t *testing.T) {
		l := start(t).limited(listenTCP(t), 8)
		for range 4 {
			c := l.dial(1)
			c.checkStatus("/v1/session", reader, 200)
			c.checkStatus("/v1/session", "canary-second", 200)
		}
		// Each connection counts for the last caller on it.
		l.dial(1).checkStatus("/v1/session", reader, 200)
		l.dial(1).checkStatus("/v1/session", "canary-second", 503)
	})
	t.Run("reserve for admin", func(t *testing.T) {
		l := start(t).limited(listenTCP(t), 16) // one of them is for callers with the scope admin
		var all []*client
		open := func(token string, n int) {
			for range n {
				c := l.dial(2 + byte(len(all)))
				c.checkStatus("/v1/session", token, 200)
				all = append(all, c)
			}
		}
		open(reader, 8)
		open("canary-second", 7)
		l.dial(2).checkStatus("/v1/session", pulls, 503)
		l.dial(2).checkStatus("/v1/session", boss, 200)
	})
	t.Run("unix socket", func(t *testing.T) {
		inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
		if err != nil {
			t.Fatal(err)
		}
		l := start(t).limited(inner, 4)
		var all []*client
		for range 4 {
			c := l.dial(0)
			c.checkStatus("/v1/session", "", 200)
			all = append(all, c)
		}
		waits := l.dial(0)
		all[0].Close()
		waits.checkStatus("/v1/session", "", 200)
		for _, c := range all[1:] {
			c.checkStatus("/v1/session", "", 200)
		}
	})
}
