package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/fleet/server"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long a test waits for what does not come.
const limit = 2 * time.Minute

// rig has a server with its directory and records, which outlive it.
type rig struct {
	*testing.T
	*server.Server
	options server.Options
	log     *lines
	stop    func()
}

// lines are a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, log: new(lines)}
	logger := logrus.New()
	logger.SetOutput(r.log)
	r.options = server.Options{
		Fleet: "ci", Host: "main", Dir: filepath.Join(t.TempDir(), "fleet"), Listen: "127.0.0.1:0", Records: storetest.New().Records(), Log: logger,
	}
	t.Cleanup(func() {
		if r.stop != nil {
			r.stop()
		}
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

// start starts the server, and waits until it runs.
func (r *rig) start() *rig {
	r.Helper()
	r.begin()
	r.runs(true)
	return r
}

// begin starts the server.
func (r *rig) begin() {
	r.Helper()
	r.options.Metrics = prometheus.NewRegistry()
	s, err := server.New(r.options)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { s.Run(ctx) })
	r.Server, r.stop = s, func() {
		cancel()
		ended.Wait()
		r.stop = nil
	}
}

// runs waits until the server runs, or does not, and returns why it does not.
func (r *rig) runs(want bool) error {
	r.Helper()
	late := time.After(limit)
	for {
		is, reason, changed := r.State()
		if is == want && (is || !errors.Is(reason, fleet.ErrStarts) && reason.Error() != "it ends") {
			return reason
		}
		select {
		case <-changed:
		case <-late:
			r.Fatalf("the server runs: %v (%v); want %v", is, reason, want)
		}
	}
}

func (r *rig) invite(request fleet.InviteRequest) creds.Creds {
	r.Helper()
	i, err := r.Invite(r.Context(), request)
	if err != nil {
		r.Fatal(err)
	}
	c, err := creds.Parse([]byte(i.Creds))
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// connect connects the daemon itself.
func (r *rig) connect() (*nats.Conn, jetstream.JetStream) {
	r.Helper()
	c := r.Creds()
	public, err := c.Public()
	if err != nil {
		r.Fatal(err)
	}
	conn, err := nats.Connect("", nats.InProcessServer(r.Server), nats.Nkey(public, c.Sign))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		r.Fatal(err)
	}
	return conn, js
}

// buckets makes the fleet's buckets.
func (r *rig) buckets(js jetstream.JetStream) {
	r.Helper()
	for _, b := range buckets.All(fleet.Subjects{Fleet: r.options.Fleet}) {
		if err := buckets.Open(r.Context(), js, b); err != nil {
			r.Fatal(err)
		}
	}
}

// wire is a connection that speaks NATS's protocol as it is written, so that a test sees
// which line was refused.
type wire struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// dial logs in. sign makes the signature of the nonce.
func (r *rig) dial(c creds.Creds, sign func([]byte) ([]byte, error)) (*wire, error) {
	r.Helper()
	plain, err := net.Dial("tcp", r.Address().String())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { plain.Close() })
	if err := plain.SetDeadline(time.Now().Add(limit)); err != nil {
		r.Fatal(err)
	}
	w := &wire{r, plain, bufio.NewReader(plain)}
	line, err := w.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var info struct {
		Nonce       string `json:"nonce"`
		TLSRequired bool   `json:"tls_required"`
		MaxPayload  int    `json:"max_payload"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil || !info.TLSRequired || info.MaxPayload != 1<<20 {
		r.Fatal(line, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.CA))
	secure := tls.Client(plain, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	w.conn, w.in = secure, bufio.NewReader(secure)
	public, err := c.Public()
	if err != nil {
		r.Fatal(err)
	}
	signature, err := sign([]byte(info.Nonce))
	if err != nil {
		r.Fatal(err)
	}
	w.write("CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"nkey\":%q,\"sig\":%q}\r\n", public, base64.RawURLEncoding.EncodeToString(signature))
	if refusal := w.sync(); refusal != "" {
		return nil, fmt.Errorf("%s", refusal)
	}
	return w, nil
}

// host logs in with good credentials.
func (r *rig) host(c creds.Creds) *wire {
	r.Helper()
	w, err := r.dial(c, c.Sign)
	if err != nil {
		r.Fatal(err)
	}
	return w
}

// write writes lines. The server may close the connection meanwhile: sync says so.
func (w *wire) write(format string, v ...any) { fmt.Fprintf(w.conn, format, v...) }

// sync waits until the server has done all that was written, and returns its refusals.
func (w *wire) sync() string {
	w.t.Helper()
	w.write("PING\r\n")
	refusals, _ := w.readUntil("PONG")
	return refusals
}

// message returns the subject and the payload of the next message.
func (w *wire) message() (subject, payload string) {
	w.t.Helper()
	_, line := w.readUntil("MSG ")
	fields := strings.Fields(line)
	var size int
	if len(fields) < 4 {
		w.t.Fatalf("no message came, but %q", line)
	}
	fmt.Sscan(fields[len(fields)-1], &size)
	content := make([]byte, size+2)
	if _, err := io.ReadFull(w.in, content); err != nil {
		w.t.Fatal(err)
	}
	return fields[1], string(content[:size])
}

// readUntil reads lines until one has a word at its begin (also after an H). It returns the
// refusals before it.
func (w *wire) readUntil(word string) (refusals, line string) {
	w.t.Helper()
	for {
		line, err := w.in.ReadString('\n')
		line = strings.TrimSpace(line)
		switch {
		case err != nil:
			return refusals + "closed", ""
		case strings.HasPrefix(line, word), strings.HasPrefix(line, "H"+word):
			return refusals, line
		case line == "PING":
			w.write("PONG\r\n")
		case strings.HasPrefix(line, "-ERR"):
			refusals += line
		}
	}
}

func kindIs(t *testing.T, err error, kind puller.ErrorKind, says string) {
	t.Helper()
	if puller.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %v (%s); want %s with %q", err, puller.KindOf(err), kind, says)
	}
}
