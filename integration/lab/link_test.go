package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/integration/lab"
)

// far starts a server of bodies of some bytes behind a link.
func far(t *testing.T, size int, opts lab.LinkOptions) (*lab.Link, *http.Client) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	body := make([]byte, size)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
	t.Cleanup(server.Close)
	link, err := lab.StartLink(server.Listener.Addr().String(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return link, &http.Client{Transport: transport}
}

func get(client *http.Client, link *lab.Link) (int64, error) {
	resp, err := client.Get("http://" + link.Addr())
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(io.Discard, resp.Body)
}

// What a client measures is what the options say, within 5 %: the best of some tries,
// since the machine may be busy.
func TestLinkShape(t *testing.T) {
	const mb = 1_000_000
	for _, c := range []struct {
		name        string
		opts        lab.LinkOptions
		connections int
		size        int
		want        time.Duration
	}{
		{"rtt", lab.LinkOptions{RTT: 100 * time.Millisecond}, 1, 1, 200 * time.Millisecond}, // with the handshake
		{"connection", lab.LinkOptions{PerConnection: 10 * mb}, 1, 10 * mb, time.Second},
		{"total", lab.LinkOptions{PerConnection: 10 * mb, Total: 50 * mb}, 10, 5 * mb, time.Second},
		{"both", lab.LinkOptions{PerConnection: 10 * mb, Total: 100 * mb, RTT: 40 * time.Millisecond}, 4, 8 * mb, 880 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			var off []string
			for range 5 {
				link, client := far(t, c.size, c.opts)
				began := time.Now()
				var all sync.WaitGroup
				for range c.connections {
					all.Go(func() {
						if n, err := get(client, link); err != nil || n != int64(c.size) {
							t.Errorf("%d bytes: %v", n, err)
						}
					})
				}
				all.Wait()
				took := time.Since(began)
				if made, most := link.Connections(); made != c.connections || most != c.connections {
					t.Errorf("%d connections, %d at a time", made, most)
				}
				// A busy machine may be slower than the link, and never faster.
				if d := took - c.want; -c.want/20 < d && d < c.want/4 {
					return
				}
				off = append(off, fmt.Sprint(took))
			}
			t.Errorf("it took %s, not %s", strings.Join(off, ", "), c.want)
		})
	}
}

// A side that has ended its part still gets the other's.
func TestLinkHalfClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			defer conn.Close()
			all, err := io.ReadAll(conn)
			if err == nil {
				conn.Write(bytes.ToUpper(all))
			}
		}
	}()
	link, err := lab.StartLink(listener.Addr().String(), lab.LinkOptions{RTT: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	conn, err := net.Dial("tcp", link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte("asked"))
	answer, second := func() ([]byte, error) {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return nil, err
		}
		return io.ReadAll(conn)
	}()
	if err := errors.Join(err, second); err != nil || string(answer) != "ASKED" {
		t.Errorf("%q %v", answer, err)
	}
}

// The first bytes of a connection go on whenever they come, also just when the link has found
// nothing to read.
func TestLinkExchanges(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	link, err := lab.StartLink(listener.Addr().String(), lab.LinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	var all errgroup.Group
	for range 8 {
		all.Go(func() error {
			for n := range 1000 {
				if err := exchange(link, byte(n)); err != nil {
					return fmt.Errorf("connection %d: %w", n, err)
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// exchange sends a byte to a server that sends it back.
func exchange(link *lab.Link, b byte) error {
	conn, err := net.Dial("tcp", link.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte{b}); err != nil {
		return err
	}
	var got [1]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil || got[0] != b {
		return fmt.Errorf("it sends %d, not %d: %w", got[0], b, err)
	}
	return nil
}
