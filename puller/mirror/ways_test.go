package mirror_test

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/puller/mirror/hosts"
)

// containerd has an engine ask a mirror that hosts.toml names, as engines with the
// containerd image store do.
func containerd(e *engine, dir string) {
	e.info.ImageStore, e.info.Version = puller.StoreContainerd, "28.0"
	e.hosts = hosts.File(dir)
}

func TestMirror(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	dir := t.TempDir()
	containerd(e, dir)
	r.push("registry.test/app", "1", random(1, 3*mib))
	r.push("registry.test/private", "1", random(2, 3*mib))
	alice := login(t, "alice")
	r.repos["registry.test/private"].password = alice.Header()
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.HostsDir = dir })

	got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
	if got.err != nil || got.how.Way != puller.WayMirror || sum(r.engine) != 0 || got.how.FromRegistry < 3*mib {
		t.Errorf("it ended with %v: %+v; the engine fetched %d bytes by itself", got.err, got.how, sum(r.engine))
	}
	for _, reference := range e.pulled {
		if strings.HasPrefix(reference, "127.") {
			t.Errorf("it has pulled %s", reference)
		}
	}
	t.Run("private", func(t *testing.T) {
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/private:1", Credentials: alice})
		if got.err != nil || got.how.Way != puller.WayAlias {
			t.Errorf("it ended with %v: %+v", got.err, got.how)
		}
		// Nobody else gets it from the mirror.
		e.layers = make(map[string]bool)
		before := sum(r.engine)
		if err := e.Pull(t.Context(), puller.Pull{Image: "registry.test/private:1"}, ignore); err != nil || sum(r.engine)-before < 3*mib {
			t.Errorf("the engine has it from the mirror (%v)", err)
		}
	})
	t.Run("own_directory", func(t *testing.T) { // so the engine asks no mirror for images of it
		if err := os.Mkdir(filepath.Join(dir, "own.test_5000_"), 0o755); err != nil {
			t.Fatal(err)
		}
		r.push("own.test:5000/app", "1", random(7, 3*mib))
		before := sum(r.engine)
		got := b.pull(t.Context(), puller.Pull{Image: "own.test:5000/app:1"})
		if got.err != nil || got.how.Way != puller.WayAlias || got.how.FromRegistry < 3*mib || sum(r.engine) != before {
			t.Errorf("it ended with %v: %+v; the engine fetched %d bytes by itself", got.err, got.how, sum(r.engine)-before)
		}
	})
	t.Run("plain_pull", func(t *testing.T) { // of somebody else
		r.push("registry.test/other", "1", random(3, 3*mib))
		before := sum(r.engine)
		if err := e.Pull(t.Context(), puller.Pull{Image: "registry.test/other:1"}, ignore); err != nil || sum(r.engine) != before {
			t.Errorf("it ended with %v; the engine fetched %d bytes by itself", err, sum(r.engine)-before)
		}
	})
	t.Run("one_repository", func(t *testing.T) { // of which two jobs want an image each
		r.push("registry.test/two", "1", random(5, 3*mib))
		r.push("registry.test/two", "2", random(6, 3*mib))
		before := sum(r.engine)
		first := b.Accelerate(t.Context(), puller.Pull{Image: "registry.test/two:1"})
		defer first.Close()
		second := b.Accelerate(t.Context(), puller.Pull{Image: "registry.test/two:2"})
		defer second.Close()
		for _, a := range []engines.Acceleration{first, second} {
			if err := a.Pull(t.Context(), ignore); err != nil || a.Accelerated().FromRegistry < 3*mib {
				t.Errorf("it ended with %v: %+v", err, a.Accelerated())
			}
		}
		if n := sum(r.engine) - before; n != 0 {
			t.Errorf("the engine fetched %d bytes by itself", n)
		}
	})
	t.Run("fault", func(t *testing.T) {
		r.push("registry.test/gone", "1", random(4, 3*mib))
		r.blob = denied
		defer func() { r.blob = nil }()
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/gone:1"})
		if got.err != nil || e.names["registry.test/gone:1"] == "" || got.how.Way != puller.WayNone || len(got.notices()) == 0 {
			t.Errorf("it ended with %v: %+v", got.err, got.how)
		}
	})
	b.stop()
	if removed, err := hosts.Remove(dir); !removed || err != nil {
		t.Errorf("the file was removed: %t, %v", removed, err)
	}
}

// Somebody prunes the engine's images while it is tried.
func TestPrunedTrial(t *testing.T) {
	for _, c := range []struct {
		name string
		way  puller.Way
	}{{"alias", puller.WayAlias}, {"mirror", puller.WayMirror}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry()
			e := newEngine(r)
			dir := t.TempDir()
			if c.way == puller.WayMirror {
				containerd(e, dir)
			}
			e.pruned = 2
			r.push("registry.test/app", "1", random(1, 3*mib))
			b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.HostsDir = dir })
			got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
			if got.err != nil || got.how.Way != c.way || sum(r.engine) != 0 {
				t.Errorf("it ended with %v: %+v", got.err, got.how)
			}
			if all := e.pulled; len(all) < 4 || all[0] == all[1] || all[1] == all[2] {
				t.Errorf("the engine pulled %s", all)
			}
		})
	}
	t.Run("always", func(t *testing.T) {
		r := newRegistry()
		e := newEngine(r)
		e.pruned = 5
		r.push("registry.test/app", "1", random(1, mib))
		b := start(t, r, e, t.TempDir())
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
		if got.err != nil || got.how.Way != puller.WayNone || !strings.Contains(b.State().Reason, "lease") {
			t.Errorf("it ended with %v: %+v, %+v", got.err, got.how, b.State())
		}
	})
}

func TestPullThrough(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	r.push("docker.io/library/app", "1", random(1, 3*mib))
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.PullThrough, o.Rules = true, forbidden{"docker.io/library/many:bad"} })
	r.push("registry.test/first", "1", random(2, mib))
	b.pull(t.Context(), puller.Pull{Image: "registry.test/first:1"}) // the trial is over
	e.mirror = b.listens(t)
	e.hub = true // it does not say which registry it asks a mirror for
	if err := e.Pull(t.Context(), puller.Pull{Image: "docker.io/library/app:1"}, ignore); err != nil || sum(r.engine) != 0 {
		t.Errorf("it ended with %v; the engine fetched %d bytes by itself", err, sum(r.engine))
	}
	t.Run("rules", func(t *testing.T) { // one tag is forbidden, and another is not
		r.push("docker.io/library/many", "good", random(7, mib))
		r.push("docker.io/library/many", "bad", random(8, mib))
		for tag, served := range map[string]bool{"good": true, "bad": false} {
			before := sum(r.engine)
			err := e.Pull(t.Context(), puller.Pull{Image: "docker.io/library/many:" + tag}, ignore)
			if byItself := sum(r.engine) != before; err != nil || byItself == served {
				t.Errorf("%s ended with %v; the engine fetched it by itself: %t", tag, err, byItself)
			}
		}
	})
	t.Run("own_credentials", func(t *testing.T) {
		r.own = login(t, "towline")
		r.push("docker.io/library/secret", "1", random(3, mib))
		if err := e.Pull(t.Context(), puller.Pull{Image: "docker.io/library/secret:1"}, ignore); err != nil || sum(r.engine) < mib {
			t.Errorf("what Towline's own credentials can read is served (%v)", err)
		}
	})
}

// TestTakenPort is another process that has the port while Towline is down. The engine asks it
// for all images, because hosts.toml stays.
func TestTakenPort(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	dir := t.TempDir()
	containerd(e, dir)
	good := r.push("registry.test/app", "1", random(1, mib))
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.HostsDir = dir })
	if got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"}); got.how.Way != puller.WayMirror {
		t.Fatalf("it ended with %v: %+v", got.err, got.how)
	}
	content, err := os.ReadFile(hosts.File(dir))
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(content))
	b.stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = true
		path := strings.Split(req.URL.Path, "/")
		body, err := read(r.get("registry.test/evil", path[len(path)-2], path[len(path)-1], ""))
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Write(body)
	})}
	r.push("registry.test/evil", "1", random(2, mib))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		other.Serve(l)
	}()
	clear(e.layers)
	clear(e.names)
	if err := e.Pull(t.Context(), puller.Pull{Image: "registry.test/app:1"}, ignore); err != nil || e.names["registry.test/app:1"] != good {
		t.Errorf("it ended with %v: %v, not %s", err, e.names, good)
	}
	other.Close()
	<-ended
	if !asked {
		t.Error("it was not asked")
	}
}

func TestHosts(t *testing.T) {
	dir := t.TempDir()
	file := hosts.File(dir)
	foreign := []byte("[host.\"http://elsewhere\"]\n")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, foreign, 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRegistry()
	e := newEngine(r)
	containerd(e, t.TempDir())
	r.push("registry.test/app", "1", random(1, mib))
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.HostsDir = dir })
	got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
	if got.err != nil || got.how.Way != puller.WayAlias || !strings.Contains(b.State().Reason, "is not of Towline") {
		t.Errorf("it ended with %v: %+v, %+v", got.err, got.how, b.State())
	}
	if left, err := os.ReadFile(file); err != nil || string(left) != string(foreign) {
		t.Errorf("the file is %q (%v)", left, err)
	}
	if removed, err := hosts.Remove(dir); removed || err == nil {
		t.Errorf("it was removed: %t, %v", removed, err)
	}
	if removed, err := hosts.Remove(t.TempDir()); removed || err != nil {
		t.Errorf("where there is none: %t, %v", removed, err)
	}
}

// TestOwnRegistries is an engine whose settings of registries count only where hosts.toml names no
// mirror of all registries.
func TestOwnRegistries(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	dir := t.TempDir()
	containerd(e, dir)
	r.push("registry.test/app", "1", random(1, mib))
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.HostsDir = dir })
	if got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"}); got.how.Way != puller.WayMirror {
		t.Fatalf("it ended with %v: %+v", got.err, got.how)
	}
	b.stop()
	e.info.OwnRegistries = "insecure-registries"
	clear(e.layers)
	b = start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.HostsDir = dir })
	got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
	if got.err != nil || got.how.Way != puller.WayAlias || !strings.Contains(b.State().Reason, "insecure-registries") {
		t.Errorf("it ended with %v: %+v, %+v", got.err, got.how, b.State())
	}
	if _, err := os.Stat(hosts.File(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of an earlier start is there: %v", err)
	}
}

// forbidden are rules that forbid one reference.
type forbidden struct{ reference string }

func (f forbidden) Check(_ puller.JobKind, named reference.Named, _ puller.PullRequest) error {
	return f.CheckName(named)
}

func (f forbidden) CheckName(named reference.Named) error {
	if named.String() == f.reference {
		return puller.Errorf(puller.ErrForbidden, "it is forbidden")
	}
	return nil
}
