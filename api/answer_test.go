package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
)

// dial opens a connection to a daemon in memory, which holds nothing that was
// not read.
func (d *daemon) dial() net.Conn {
	d.T.Helper()
	conn, err := d.Client.Transport.(*http.Transport).DialContext(d.T.Context(), "", "")
	if err != nil {
		d.T.Fatal(err)
	}
	d.T.Cleanup(func() { conn.Close() })
	return conn
}

func TestSlowReader(t *testing.T) {
	const pull, none = `{"image":"registry.test/app:v1","policy":"never"}`, ""
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/healthz", none}, {"HEAD", "/healthz", none}, {"GET", "/readyz", none}, {"GET", "/metrics", none},
		{"GET", "/v1/jobs", none}, {"GET", "/v1/jobs/JOB", none}, {"DELETE", "/v1/jobs/JOB", none}, {"GET", "/v1/jobs/JOB/events", none}, {"GET", "/v1/jobs/JOB/logs", none},
		{"HEAD", "/v1/jobs/JOB/events", none}, {"GET", "/v1/events", none}, {"GET", "/v1/engine", none}, {"GET", "/v1/session", none}, {"DELETE", "/v1/session", none},
		{"POST", "/v1/pulls", pull}, {"POST", "/v1/pulls?wait=true", pull}, {"POST", "/v1/prewarms?dry_run=true", `{"images":["registry.test/app:v1"]}`},
		{"POST", "/v1/pulls", "{"}, {"POST", "/v1/nothing", pull}, {"PUT", "/v1/jobs", none}, {"GET", "/v1/../v1/jobs", none},
		{"GET", "/_ping", none}, {"HEAD", "/_ping", none}, {"GET", "/version", none}, {"GET", "/info", none}, {"GET", "/images/registry.test/app/json", none},
		{"POST", "/images/create?fromImage=registry.test/app&tag=v1", none}, {"POST", "/v1.41/containers/create", none},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := startInMemory(t)
				id := d.call("POST", "/v1/pulls", pull).job(t, http.StatusAccepted).ID
				d.ended(id)
				conn := d.dial()
				fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: towline\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", c.method, strings.ReplaceAll(c.path, "JOB", id), len(c.body), c.body)
				<-time.After(61 * time.Second)
				synctest.Wait()
				if n := d.Open(); n != 0 {
					t.Errorf("%d requests are still being answered", n)
				}
				if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
					t.Errorf("the connection is still there: %q, %v", got, err)
				}
			})
		})
	}
}

// The end of a stream is written when its handler has returned.
func TestSlowReaderOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		gate := d.held("registry.test/app:v1")
		conn := d.dial()
		fmt.Fprint(conn, "POST /images/create?fromImage=registry.test/app&tag=v1 HTTP/1.1\r\nHost: towline\r\n\r\n")
		in := bufio.NewReader(conn)
		for line := ""; !strings.Contains(line, "Downloading"); {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		close(gate)
		<-time.After(61 * time.Second)
		synctest.Wait()
		if n := d.Open(); n != 0 {
			t.Errorf("%d requests are still being answered", n)
		}
	})
}

func TestWriteDeadlineIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		for n := range 300 {
			if _, err := d.Service.Pull(puller.PullRequest{Image: fmt.Sprintf("registry.test/%s:v%d", strings.Repeat("x", 200), n), Policy: puller.PolicyNever}); err != nil {
				t.Fatal(err)
			}
		}
		conn := d.dial()
		fmt.Fprint(conn, "GET /v1/jobs?limit=300 HTTP/1.1\r\nHost: towline\r\n\r\n")
		began := time.Now()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for buf := make([]byte, 16<<10); err == nil; {
			var n int
			n, err = io.ReadFull(resp.Body, buf)
			size += n
			<-time.After(5 * time.Second)
		}
		if took := time.Since(began); err != io.EOF && err != io.ErrUnexpectedEOF || size < 150_000 || took < 45*time.Second {
			t.Errorf("%d bytes in %s: %v", size, took, err)
		}
		<-time.After(100 * time.Second) // longer than any deadline of that answer
		fmt.Fprint(conn, "POST /v1/pulls HTTP/1.1\r\nHost: towline\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 29\r\n\r\n")
		in := bufio.NewReader(conn)
		if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Errorf("the next request is answered with %q, %v", line, err)
		}
		in.ReadString('\n')
		fmt.Fprint(conn, `{"image":"registry.test/app"}`)
		if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusAccepted {
			t.Errorf("the next request is answered with %v, %v", resp, err)
		}
	})
}
