package connections_test

import (
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/towline/towline/api/connections"
)

func TestLimitedListener(t *testing.T) {
	t.Run("wait", func(t *testing.T) {
		inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
		if err != nil {
			t.Fatal(err)
		}
		l := connections.Limit(inner, 2)
		accepted := make(chan net.Conn, 3)
		ended := make(chan error)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				accepted <- c
			}
		}()
		for range 3 {
			c, err := net.Dial("unix", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		first, second := <-accepted, <-accepted
		select {
		case <-accepted:
			t.Error("there is a third connection of two")
		case <-time.After(50 * time.Millisecond):
		}
		first.Close()
		first.Close() // counts once
		third := <-accepted
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returns %v when the listener closes", err)
		}
		second.Close()
		third.Close()
	})
	t.Run("below TLS", func(t *testing.T) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer inner.Close()
		l := connections.CheckHeads(tls.NewListener(connections.Limit(inner, 1), &tls.Config{}))
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if !connections.Counted(conn) {
			t.Error("the counted connection is not found")
		}
	})
}
