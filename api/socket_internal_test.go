//go:build unix

package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// detachable is as a connection that is counted.
type detachable struct {
	net.Conn
	released int
}

func (d *detachable) Detach() (net.Conn, func()) { return d.Conn, func() { d.released++ } }

func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return server, client
}

func TestAQuietSocketWritesAllThoughItHasToWait(t *testing.T) {
	server, client := pair(t)
	counted := &detachable{Conn: server}
	conn, descriptor := quiet(counted)
	if descriptor < 0 {
		t.Fatal("a socket has no descriptor")
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than a socket's buffers take
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(client)
		got <- all
	}()
	conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for part := range bytes.Lines(append(want, '\n')) {
		if n, err := conn.Write(part); n != len(part) || err != nil {
			t.Fatalf("%d bytes were written, %v", n, err)
		}
	}
	if counted.released != 0 {
		t.Error("it counts as closed while it is written to")
	}
	if err := conn.Close(); err != nil || counted.released != 1 {
		t.Errorf("closed: %v, released %d times", err, counted.released)
	}
	if all := <-got; !bytes.Equal(all, append(want, '\n')) {
		t.Errorf("%d bytes arrived, of %d", len(all), len(want)+1)
	}
}

func TestAQuietSocketGivesUpAtItsDeadline(t *testing.T) {
	server, client := pair(t)
	conn, descriptor := quiet(server)
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("%d bytes were written, %v", n, err)
	}
	if n, err := tryWrite(descriptor, []byte("x")); n != 0 || err != nil {
		t.Errorf("what is full takes %d bytes, %v", n, err)
	}
	client.Close()
	if _, err := tryWrite(descriptor, []byte("x")); err == nil {
		t.Error("what nobody will read is taken")
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("what nobody will read is written")
	}
}

func TestWhatIsNoSocketStaysAsItIs(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if conn, descriptor := quiet(a); conn != a || descriptor != -1 {
		t.Errorf("a pipe is %v, %d", conn, descriptor)
	}
}
