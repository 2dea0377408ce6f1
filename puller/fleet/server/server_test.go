package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/storetest"
)

func TestInvite(t *testing.T) {
	r := newRig(t).start()
	first := r.invite(with(fleet.InviteRequest{Host: "a", Labels: map[string]string{"role": "ci"}, Zone: "rack-1"}, func(r *fleet.InviteRequest) { r.Caller = "ann" }))
	if want := []string{"tls://" + r.Address().String()}; first.Fleet != "ci" || first.Host != "a" || !cmp.Equal(first.URLs, want) || first.CA == "" {
		t.Errorf("the invitation has %q, %q, %q", first.Fleet, first.Host, first.URLs)
	}
	w := r.host(first)
	labels := func(want string) {
		t.Helper()
		_, js := r.connect()
		b, err := js.KeyValue(t.Context(), fleet.Subjects{Fleet: "ci"}.Invited())
		if err != nil {
			t.Fatal(err)
		}
		e, err := b.Get(t.Context(), "a")
		if want == "" && errors.Is(err, jetstream.ErrKeyNotFound) {
			return
		}
		if err != nil || string(e.Value()) != want {
			t.Errorf("the controllers see %s, %v; want %s", e.Value(), err, want)
		}
	}
	labels(`{"labels":{"role":"ci"},"zone":"rack-1"}`)

	t.Run("again", func(t *testing.T) {
		_, err := r.Invite(t.Context(), fleet.InviteRequest{Host: "a"})
		kindIs(t, err, puller.ErrConflict, "host: a was invited at")
		if refusal := w.sync(); refusal != "" {
			t.Error(refusal)
		}
	})
	t.Run("bad", func(t *testing.T) {
		for field, request := range map[string]fleet.InviteRequest{
			"host: ":                     {Host: "a.b"},
			"host: main is the host":     {Host: "main"},
			"labels: the label \"host\"": {Host: "b", Labels: map[string]string{"host": "a"}},
			"zone: ":                     {Host: "b", Zone: "a b"},
		} {
			_, err := r.Invite(t.Context(), request)
			kindIs(t, err, puller.ErrInvalidRequest, field)
		}
	})
	t.Run("replace", func(t *testing.T) {
		second := r.invite(fleet.InviteRequest{Host: "a", Replace: true})
		if refusal := w.sync(); !strings.Contains(refusal, "closed") {
			t.Errorf("the old connection goes on: %q", refusal)
		}
		if _, err := r.dial(first, first.Sign); err == nil {
			t.Error("the old credentials work")
		}
		w = r.host(second)
		labels(`{}`)
		first = second
	})
	t.Run("restart", func(t *testing.T) {
		r.stop()
		r.start()
		w = r.host(first)
		labels(`{}`)
	})
	t.Run("withdraw", func(t *testing.T) {
		if err := r.Withdraw(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if refusal := w.sync(); !strings.Contains(refusal, "closed") {
			t.Errorf("the connection goes on: %q", refusal)
		}
		if _, err := r.dial(first, first.Sign); err == nil {
			t.Error("the credentials work")
		}
		labels("")
		if err := r.Withdraw(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		r.stop()
		r.start()
		labels("")
		if _, err := r.dial(first, first.Sign); err == nil {
			t.Error("the credentials work after a restart")
		}
	})
	t.Run("secret", func(t *testing.T) {
		r.stop()
		all, err := r.options.Records.Load("fleet-invitations")
		if err != nil {
			t.Fatal(err)
		}
		found := filepath.WalkDir(r.options.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, []byte(first.Seed)) {
				return fmt.Errorf("%s has the seed", path)
			}
			return err
		})
		if found != nil || strings.Contains(fmt.Sprintf("%s", all), first.Seed) || strings.Contains(r.log.String(), first.Seed) {
			t.Errorf("the server keeps the seed: %v", found)
		}
	})
}

func TestController(t *testing.T) {
	r := newRig(t).start()
	c := r.invite(fleet.InviteRequest{Host: "second", Controller: true})
	w := r.host(c)
	w.write("SUB _INBOX_second.> 1\r\nPUB $JS.API.STREAM.NAMES _INBOX_second.1 0\r\n\r\n")
	if _, payload := w.message(); !strings.Contains(payload, "KV_towline_ci_invited") {
		t.Errorf("a controller sees the streams %s", payload)
	}
	for _, subject := range []string{"$SYS.>", "$SYS.REQ.SERVER.PING"} {
		w.write("SUB %s 2\r\n", subject)
		w.sync() // a subscription in the own account: the system's is another one
	}
}

func TestLogin(t *testing.T) {
	r := newRig(t).start()
	good, other := r.invite(fleet.InviteRequest{Host: "a"}), r.invite(fleet.InviteRequest{Host: "b"})
	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := stranger.Seed()
	if err != nil {
		t.Fatal(err)
	}
	unknown := good
	unknown.Seed = string(seed)
	for name, c := range map[string]struct {
		creds creds.Creds
		sign  func([]byte) ([]byte, error)
	}{
		"another key":     {good, other.Sign},
		"unknown":         {unknown, unknown.Sign},
		"no signature":    {good, func([]byte) ([]byte, error) { return nil, nil }},
		"an old nonce":    {good, func([]byte) ([]byte, error) { return good.Sign([]byte("an older nonce")) }},
		"half":            {good, func(n []byte) ([]byte, error) { s, err := good.Sign(n); return s[:32], err }},
		"the wrong nonce": {good, func(n []byte) ([]byte, error) { return good.Sign(n[1:]) }},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.dial(c.creds, c.sign); err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
				t.Errorf("the login gives %v", err)
			}
		})
	}
	t.Run("without TLS", func(t *testing.T) {
		conn, err := net.Dial("tcp", r.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("CONNECT {}\r\nPING\r\n")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		for {
			n, err := conn.Read(answer)
			if bytes.Contains(answer[:n], []byte("PONG")) {
				t.Fatal("it logs in without TLS")
			}
			if err != nil {
				break
			}
		}
	})
	t.Run("many", func(t *testing.T) {
		for n := range 5 {
			_, err := r.dial(good, good.Sign)
			if is := err == nil; is != (n < 4) {
				t.Errorf("connection %d: %v", n, err)
			}
		}
		if _, err := r.dial(other, other.Sign); err != nil {
			t.Error(err)
		}
	})
}

// A host that sends without end is shut out, and the others go on.
func TestFlood(t *testing.T) {
	r := newRig(t).start()
	_, js := r.connect()
	r.buckets(js)
	bad, good := r.invite(fleet.InviteRequest{Host: "bad"}), r.invite(fleet.InviteRequest{Host: "good"})
	w, other := r.host(bad), r.host(good)
	line := fmt.Sprintf("PUB %s 5\r\nflood\r\n", fleet.Key(fleet.Subjects{Fleet: "ci"}.Reports(), "bad"))
	many := []byte(strings.Repeat(line, 1000))
	sent := 0
	for {
		if _, err := w.conn.Write(many); err != nil {
			break
		}
		if sent += 1000; sent > 50_000_000 {
			t.Fatal("the flood has no end")
		}
	}
	t.Log(sent, "messages were sent")
	if _, err := r.dial(bad, bad.Sign); err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
		t.Errorf("the host is let in: %v", err)
	}
	other.write("SUB _INBOX_good.1 1\r\nPUB %s _INBOX_good.1 2\r\nhi\r\n", fleet.Key(fleet.Subjects{Fleet: "ci"}.Reports(), "good"))
	if _, payload := other.message(); strings.Contains(payload, "error") {
		t.Errorf("another host's report: %s", payload)
	}
	if !strings.Contains(r.log.String(), "the host sends too much") {
		t.Error("the log does not say so")
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.options.Listen = taken.Addr().String()
	r.begin()
	if reason := r.runs(false); !strings.Contains(reason.Error(), "fleet.listen: ") || !strings.Contains(reason.Error(), "address already in use") {
		t.Errorf("the reason is %v", reason)
	}
	if _, err := r.InProcessConn(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
	_, err = r.Invite(t.Context(), fleet.InviteRequest{Host: "a"})
	kindIs(t, err, puller.ErrOverloaded, "address already in use")
	taken.Close()
	r.runs(true)
	r.host(r.invite(fleet.InviteRequest{Host: "a"}))
	if !strings.Contains(r.log.String(), "goes on alone") {
		t.Error("the log does not say so")
	}
}

// Where the disk is full, the server says so, and goes on when there is room again. What it
// has acknowledged is there.
func TestFullDisk(t *testing.T) {
	t.Run("a limit to the size of files", func(t *testing.T) {
		var was syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		limit := func(l syscall.Rlimit) {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
				t.Fatal(err)
			}
		}
		defer limit(was)
		testFull(t, newRig(t), func() { limit(syscall.Rlimit{Cur: 1 << 20, Max: was.Max}) }, func() { limit(was) })
	})
	t.Run("a small disk", func(t *testing.T) {
		r := newRig(t)
		if err := os.MkdirAll(r.options.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		resize := storetest.SmallDisk(t, r.options.Dir, "8m")
		testFull(t, r, func() {}, func() { resize("200m") })
	})
}

func testFull(t *testing.T, r *rig, small, large func()) {
	r.start()
	defer func() { r.stop() }() // before the disk is unmounted
	_, js := r.connect()
	r.buckets(js)
	sets, err := js.KeyValue(t.Context(), fleet.Subjects{Fleet: "ci"}.Sets())
	if err != nil {
		t.Fatal(err)
	}
	small()
	// A put that is not kept gets no answer.
	answered, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		for {
			is, _, changed := r.State()
			if !is {
				return
			}
			select {
			case <-changed:
			case <-answered.Done():
				return
			}
		}
	}()
	value := bytes.Repeat([]byte("much "), 20_000)
	kept := 0
	for ; ; kept++ {
		if kept == 1000 {
			t.Fatal("the disk does not fill up")
		}
		if _, err := sets.Put(answered, fmt.Sprint("set-", kept), value); err != nil {
			t.Logf("after %d sets: %v", kept, err)
			break
		}
	}
	if reason := r.runs(false); !strings.Contains(reason.Error(), r.options.Dir+" can't be written to") {
		t.Errorf("the reason is %v", reason)
	}
	large()
	r.runs(true)
	_, js = r.connect()
	if sets, err = js.KeyValue(t.Context(), fleet.Subjects{Fleet: "ci"}.Sets()); err != nil {
		t.Fatal(err)
	}
	for n := range kept {
		if e, err := sets.Get(t.Context(), fmt.Sprint("set-", n)); err != nil || !bytes.Equal(e.Value(), value) {
			t.Fatalf("set %d, which was acknowledged, is lost: %v", n, err)
		}
	}
	if _, err := sets.Put(t.Context(), "more", value); err != nil {
		t.Error(err)
	}
}

func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"no description": func(path string) error { return os.Remove(filepath.Join(path, "meta.inf")) },
		"garbage description": func(path string) error {
			return os.WriteFile(filepath.Join(path, "meta.inf"), []byte("garbage"), 0o600)
		},
		"empty description": func(path string) error { return os.Truncate(filepath.Join(path, "meta.inf"), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).start()
			_, js := r.connect()
			r.buckets(js)
			r.stop()
			if err := damage(filepath.Join(r.options.Dir, "jetstream", "fleet", "streams", "KV_towline_ci_sets")); err != nil {
				t.Fatal(err)
			}
			r.begin()
			if reason := r.runs(false); !strings.Contains(reason.Error(), "KV_towline_ci_sets can't be read") {
				t.Errorf("the reason is %v", reason)
			}
		})
	}
}

func TestAuthority(t *testing.T) {
	r := newRig(t).start()
	c := r.invite(fleet.InviteRequest{Host: "a"})
	path := filepath.Join(r.options.Dir, "authority.pem")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	r.stop()
	r.start()
	r.host(c) // it is the same after a restart
	r.stop()
	refused := func(says string) {
		t.Helper()
		r.begin()
		if reason := r.runs(false); !strings.Contains(reason.Error(), says) || !strings.Contains(reason.Error(), path) {
			t.Errorf("the reason is %v, not %q", reason, says)
		}
		r.stop()
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("chmod 600")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("damaged")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.start()
	if _, err := r.dial(c, c.Sign); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a host trusts another authority: %v", err)
	}
}

// A certificate of the daemon's TLS settings is used in place of an own one.
func TestCertificate(t *testing.T) {
	authority := authtest.NewAuthority(t)
	authority.Issue("server", "towline")
	r := newRig(t)
	r.options.Certificate = func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(authority.File("server.pem"), authority.File("server.key"))
		return &pair, err
	}
	ca, err := os.ReadFile(authority.File("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r.options.CA = string(ca)
	r.start()
	r.host(r.invite(fleet.InviteRequest{Host: "a"}))
	if _, err := os.Stat(filepath.Join(r.options.Dir, "authority.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the server has made an authority of its own")
	}
}

// with returns a request with what only the daemon sets.
func with[R any](r R, set func(*R)) R {
	set(&r)
	return r
}
