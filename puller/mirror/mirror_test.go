package mirror_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/credentials"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/stream/pullstream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultTransport.(*http.Transport).CloseIdleConnections() }))
}

// bench is a Mirror with what it needs.
type bench struct {
	*mirror.Mirror
	registry *registry
	engine   *engine
	dir      string
	stop     func() // ends Run
}

// sample is how much of a blob a registry shows for a second caller.
const sample = 64 << 10

var timeZero = time.Unix(0, 0)

// options change the options of a Mirror.
type options func(*mirror.Options)

// start returns a Mirror that runs, with a cache in dir.
func start(t *testing.T, r *registry, e *engine, dir string, change ...options) *bench {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := mirror.Options{
		Engine: e, Registry: r, Dir: dir, Mode: "auto", Listen: "127.0.0.1:0",
		Connections: 8, PerRegistry: 8, Chunk: 1 << 20, Cache: 1 << 30, MinSize: 1, Log: log,
	}
	for _, f := range change {
		f(&o)
	}
	m := mirror.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Run(ctx)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return &bench{m, r, e, dir, stop}
}

// pulled is what became of a pull.
type pulled struct {
	err      error
	how      puller.Accelerated
	messages []pullstream.Message
}

// pull pulls as a transfer does.
func (b *bench) pull(ctx context.Context, p puller.Pull) (r pulled) {
	a := b.Accelerate(ctx, p)
	defer a.Close()
	r.err = a.Pull(ctx, func(m pullstream.Message) { r.messages = append(r.messages, m) })
	r.how = a.Accelerated()
	return r
}

// metric returns the value of a counter.
func metric(t *testing.T, all *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// notice returns the messages that are about no layer.
func (r pulled) notices() (all []string) {
	for _, m := range r.messages {
		if m.ID == "" && strings.Contains(m.Status, "by itself") {
			all = append(all, m.Status)
		}
	}
	return all
}

func sum(sent map[string]int64) (n int64) {
	for _, bytes := range sent {
		n += bytes
	}
	return n
}

const mib = 1 << 20

func TestAlias(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	base, own := random(1, 5*mib), random(2, 3*mib+17)
	id := r.push("registry.test/app", "1", base, own)
	metrics := prometheus.NewRegistry()
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.Metrics = metrics })
	got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
	if got.err != nil || got.how.Way != puller.WayAlias || got.how.FromRegistry < 8*mib || got.how.FromCache != 0 {
		t.Fatalf("it ended with %v: %+v", got.err, got.how)
	}
	if diff := cmp.Diff(puller.WayAlias, b.State().Way); diff != "" {
		t.Errorf("%s: %s", diff, b.State().Reason)
	}
	if n := sum(r.engine); n != 0 {
		t.Errorf("the engine fetched %d bytes by itself", n)
	}
	for layer, n := range r.sent {
		if want := int64(len(r.repos["registry.test/app"].blobs[layer])); n != want {
			t.Errorf("the registry sent %d bytes of %s, which has %d", n, layer, want)
		}
	}
	if last := e.pulled[len(e.pulled)-1]; last != "registry.test/app:1" {
		t.Errorf("the engine pulled %s last", last)
	}
	temporary := e.pulled[len(e.pulled)-2]
	if !strings.HasSuffix(temporary, "@"+id) || !strings.HasPrefix(temporary, "127.0.0.1:") {
		t.Errorf("the temporary name was %s", temporary)
	}
	if diff := cmp.Diff(map[string]string{"registry.test/app:1": id}, e.names); diff != "" {
		t.Errorf("names at the engine (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "names")); err != nil || len(left) != 0 {
		t.Errorf("notes of temporary names: %v, %v", left, err)
	}
	t.Run("progress", func(t *testing.T) {
		var p pullstream.Progress
		for _, m := range got.messages {
			p.Fold(m, timeZero)
		}
		totals := p.Totals(timeZero)
		if totals.Total != 8*mib+17 || totals.Downloaded != totals.Total || totals.LayersDone != 2 {
			t.Errorf("%+v", totals)
		}
		digests := slices.ContainsFunc(got.messages, func(m pullstream.Message) bool { return strings.HasSuffix(m.Status, temporary) })
		if digests {
			t.Error("the end of the temporary name's pull was told")
		}
	})
	t.Run("again", func(t *testing.T) {
		e.layers = make(map[string]bool)
		before := sum(r.sent)
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
		if got.err != nil || got.how.FromRegistry != 0 || got.how.FromCache < 8*mib || sum(r.sent) != before {
			t.Errorf("it ended with %v: %+v; the registry sent %d bytes", got.err, got.how, sum(r.sent)-before)
		}
		if hits := metric(t, metrics, "towline_accelerator_cache_hits_total"); hits < 2 {
			t.Errorf("%v hits are counted in the cache", hits)
		}
	})
	t.Run("shared", func(t *testing.T) {
		e.layers = make(map[string]bool)
		before := sum(r.sent)
		other := random(3, 2*mib)
		r.push("registry.test/other", "1", base, other)
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/other:1"})
		n := sum(r.sent) - before
		if got.err != nil || n < 2*mib || n > 2*mib+sample+1000 {
			t.Errorf("it ended with %v; the registry sent %d bytes", got.err, n)
		}
	})
	t.Run("lacks", func(t *testing.T) { // only what the engine lacks is fetched
		top := random(4, mib)
		r.push("registry.test/app", "2", base, own, top)
		before := sum(r.sent)
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:2"})
		if n := sum(r.sent) - before; got.err != nil || n < mib || n > mib+1000 {
			t.Errorf("it ended with %v; the registry sent %d bytes", got.err, n)
		}
	})
	t.Run("index", func(t *testing.T) {
		arm := r.push("registry.test/many", "arm", random(5, 2*mib))
		amd := r.push("registry.test/many", "amd", random(6, 2*mib))
		id := r.index("registry.test/many", "1", map[string]string{"arm64": arm, "amd64": amd})
		got := b.pull(t.Context(), puller.Pull{Image: "registry.test/many:1"})
		if got.err != nil || got.how.Way != puller.WayAlias || e.names["registry.test/many:1"] != id || sum(r.engine) != 0 {
			t.Errorf("it ended with %v: %+v, %v", got.err, got.how, e.names)
		}
	})
}

// TestNone are pulls that are not accelerated.
func TestNone(t *testing.T) {
	for _, c := range []struct {
		name, image, reason string
		change              options
		engine              func(*engine)
		fails               bool
	}{
		{"off", "registry.test/app:1", "mirror.mode is none", func(o *mirror.Options) { o.Mode = "none" }, nil, false},
		{"small", "registry.test/app:1", "mirror.min_size", func(o *mirror.Options) { o.MinSize = 10 * mib }, nil, false},
		{"loopback", "127.0.0.1:5000/app:1", "on this machine", nil, nil, true},
		{"localhost", "localhost:5000/app:1", "on this machine", nil, nil, false},
		{"unknown", "registry.test/none:1", "no repository", nil, nil, true},
		{"not_reached", "registry.test/app:1", "connection refused", nil, func(e *engine) { e.blind = true }, false},
		{"no_engine", "registry.test/app:1", "what its platform is", nil, func(e *engine) { e.info.Platform = "" }, false},
		{"port", "registry.test/app:1", "mirror.listen", func(o *mirror.Options) { o.Listen = "127.0.0.1:1" }, nil, false},
		{"hosts", "registry.test/app:1", "no containerd image store", func(o *mirror.Options) { o.Mode, o.HostsDir = "mirror", "/nowhere" }, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry()
			e := newEngine(r)
			for _, name := range []string{"registry.test/app", "127.0.0.1:5000/app", "localhost:5000/app"} {
				r.push(name, "1", random(1, mib))
			}
			if c.engine != nil {
				c.engine(e)
			}
			var change []options
			if c.change != nil {
				change = append(change, c.change)
			}
			if c.name == "port" { // a port that is taken
				taken := start(t, r, newEngine(r), t.TempDir())
				taken.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
				change = []options{func(o *mirror.Options) { o.Listen = taken.listens(t) }}
			}
			b := start(t, r, e, t.TempDir(), change...)
			got := b.pull(t.Context(), puller.Pull{Image: c.image})
			if got.how.Way != puller.WayNone || !strings.Contains(got.how.Reason, c.reason) {
				t.Errorf("%+v; want a reason with %q", got.how, c.reason)
			}
			if failed := got.err != nil; failed != c.fails {
				t.Errorf("it ended with %v", got.err)
			}
		})
	}
}

// listens returns the address of the endpoint.
func (b *bench) listens(t *testing.T) string {
	for _, reference := range b.engine.pulled {
		host, _, _ := strings.Cut(reference, "/")
		return host
	}
	t.Fatal("the engine was not tried")
	return ""
}

// TestFaults are faults on the way from the registry. The engine gets the image all the
// same.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(n int, part []byte) ([]byte, error) // n counts the requests from 1
		way   puller.Way
	}{
		{"wrong_bytes_once", func(n int, part []byte) ([]byte, error) {
			if n == 2 {
				part[0] ^= 1
			}
			return part, nil
		}, puller.WayAlias},
		{"wrong_bytes_always", func(_ int, part []byte) ([]byte, error) {
			part[0] ^= 1
			return part, nil
		}, puller.WayNone},
		{"gone", func(n int, part []byte) ([]byte, error) {
			if n > 3 {
				return nil, puller.Errorf(puller.ErrNotFound, "gone")
			}
			return part, nil
		}, puller.WayNone},
		{"denied", func(int, []byte) ([]byte, error) { return nil, puller.Errorf(puller.ErrDenied, "no") }, puller.WayNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry()
			e := newEngine(r)
			r.push("registry.test/app", "1", random(1, 5*mib), random(2, 3*mib))
			all := r.repos["registry.test/app"].blobs
			var mu sync.Mutex
			n := 0
			r.blob = func(_ context.Context, id string, from, to int64) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				n++
				return c.fault(n, slices.Clone(all[id][from:to]))
			}
			b := start(t, r, e, t.TempDir())
			got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
			if got.err != nil || got.how.Way != c.way || e.names["registry.test/app:1"] == "" {
				t.Errorf("it ended with %v: %+v", got.err, got.how)
			}
			if fell := len(got.notices()) == 1; fell != (c.way == puller.WayNone) {
				t.Errorf("notices: %q", got.notices())
			}
		})
	}
}

// TestBusy is a registry that asks for fewer requests. The pull is told.
func TestBusy(t *testing.T) {
	r := newRegistry()
	r.push("registry.test/app", "1", random(1, 2*mib))
	var mu sync.Mutex
	refused := false
	r.blob = func(context.Context, string, int64, int64) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if refused {
			return nil, nil
		}
		refused = true
		return nil, &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: 10 * time.Millisecond, Err: puller.ErrBusy}
	}
	b := start(t, r, newEngine(r), t.TempDir())
	var told []time.Duration
	got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1", Busy: func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, d)
	}})
	if diff := cmp.Diff([]time.Duration{10 * time.Millisecond}, told); diff != "" || got.how.Way != puller.WayAlias {
		t.Errorf("%+v; it was told (-want +got):\n%s", got.how, diff)
	}
}

// TestCallers are callers whose credentials differ.
func TestCallers(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	secret := random(1, 2*mib)
	r.push("registry.test/private", "1", secret)
	alice, bob := login(t, "alice"), login(t, "bob")
	r.repos["registry.test/private"].password = alice.Header()
	// A repository of bob's lists the layer, and does not have it.
	r.push("evil.test/copy", "1", secret)
	lie := r.repos["evil.test/copy"]
	for id, body := range lie.blobs {
		if len(body) == len(secret) {
			lie.blobs[id] = random(9, len(secret))
		}
	}
	b := start(t, r, e, t.TempDir())
	if got := b.pull(t.Context(), puller.Pull{Image: "registry.test/private:1", Credentials: alice}); got.how.Way != puller.WayAlias {
		t.Fatalf("alice: %+v", got.how)
	}
	e.layers = make(map[string]bool)
	got := b.pull(t.Context(), puller.Pull{Image: "evil.test/copy:1", Credentials: bob})
	if got.err == nil || got.how.Way != puller.WayNone || e.layers[digest.FromBytes(secret).String()] {
		t.Errorf("bob got the layer: %v, %+v", got.err, got.how)
	}
	// A registry that has it may say so.
	r.push("other.test/copy", "1", secret)
	before := sum(r.sent)
	got = b.pull(t.Context(), puller.Pull{Image: "other.test/copy:1", Credentials: bob})
	if n := sum(r.sent) - before; got.err != nil || got.how.Way != puller.WayAlias || n > sample+1000 {
		t.Errorf("bob ended with %v: %+v; the registry sent %d bytes", got.err, got.how, n)
	}
}

// TestRevoked is a caller who lists another one's blob before that one fetches it.
func TestRevoked(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	secret := random(1, 2*mib)
	id := digest.FromBytes(secret).String()
	r.push("registry.test/private", "1", secret)
	alice, bob := login(t, "alice"), login(t, "bob")
	r.repos["registry.test/private"].password = alice.Header()
	r.push("evil.test/copy", "1", secret)
	delete(r.repos["evil.test/copy"].blobs, id)
	b := start(t, r, e, t.TempDir())
	open := b.Accelerate(t.Context(), puller.Pull{Image: "evil.test/copy:1", Credentials: bob}) // keeps the blob in use
	defer open.Close()
	if err := open.Pull(t.Context(), func(pullstream.Message) {}); err == nil {
		t.Fatal("bob got what his registry does not have")
	}
	if got := b.pull(t.Context(), puller.Pull{Image: "registry.test/private:1", Credentials: alice}); got.how.Way != puller.WayAlias {
		t.Fatalf("alice: %+v", got.how)
	}
	e.layers = make(map[string]bool)
	if got := b.pull(t.Context(), puller.Pull{Image: "evil.test/copy:1", Credentials: bob}); got.err == nil || e.layers[id] {
		t.Errorf("bob got the layer: %v, %+v", got.err, got.how)
	}
}

// TestTogether is a small image that callers with different credentials want at once.
func TestTogether(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	b := start(t, r, e, t.TempDir())
	for round := range 10 {
		image := fmt.Sprint("registry.test/small:", round)
		r.push("registry.test/small", fmt.Sprint(round), random(uint64(100+round), 1000))
		var pulls sync.WaitGroup
		for caller := range 8 {
			credentials := login(t, fmt.Sprint("caller", caller))
			pulls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if got := b.pull(ctx, puller.Pull{Image: image, Credentials: credentials}); got.err != nil || got.how.Way != puller.WayAlias {
					t.Errorf("caller %d of %s: %v, %+v", caller, image, got.err, got.how)
				}
			})
		}
		pulls.Wait()
	}
}

func login(t *testing.T, user string) puller.Credentials {
	c, err := credentials.Parse(base64.URLEncoding.EncodeToString(fmt.Appendf(nil, `{"username":%q,"password":"secret"}`, user)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNames are temporary names that a crash has left.
func TestNames(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	dir := t.TempDir()
	const repository = "/towline/abcdefghijklmnopqrstuvwxyz@"
	id := digest.FromString("").String()
	own := []string{
		"127.0.0.1:7079" + repository + id,
		"[::1]:7079" + repository + id,
		"127.0.0.1:7079" + repository + digest.SHA512.FromString("").String(),
		"towline-trial.invalid" + repository + id,
	}
	foreign := []string{
		"127.0.0.1:7079/towl",
		"127.0.0.1:7079" + repository + id[:70],
		"registry.test/app@" + id,
		"registry.test" + repository + id,
		"127.0.0.1:5000/team/app@" + id,
		"127.0.0.1:7079/team" + repository + id,
	}
	if err := os.MkdirAll(filepath.Join(dir, "names"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, reference := range slices.Concat(own, foreign) {
		e.names[reference] = id
		if err := os.WriteFile(filepath.Join(dir, "names", fmt.Sprint(i)), []byte(reference), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := start(t, r, e, dir)
	deadline := time.After(10 * time.Second)
	for {
		left, err := os.ReadDir(filepath.Join(dir, "names"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("notes that are left: %s", left)
		case <-time.After(10 * time.Millisecond):
		}
	}
	b.stop()
	want := make(map[string]string)
	for _, reference := range foreign {
		want[reference] = id
	}
	if diff := cmp.Diff(want, e.names); diff != "" {
		t.Errorf("names at the engine (-want +got):\n%s", diff)
	}
}

// TestSmallCache is an image that does not fit in the cache, though each of its blobs does.
func TestSmallCache(t *testing.T) {
	r := newRegistry()
	e := newEngine(r)
	r.push("registry.test/app", "1", random(1, 3*mib), random(2, 3*mib), random(3, 3*mib))
	b := start(t, r, e, t.TempDir(), func(o *mirror.Options) { o.Cache = 8 * mib })
	got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
	if got.err != nil || got.how.Way != puller.WayNone || !strings.Contains(got.how.Reason, "mirror.cache") || len(got.notices()) != 1 {
		t.Errorf("it ended with %v: %+v, %q", got.err, got.how, got.notices())
	}
	if n := sum(r.sent); n > 1000 || len(e.pulled) != 3 { // the trial, the temporary name and its own
		t.Errorf("the registry sent %d bytes for nothing; the engine pulled %s", n, e.pulled)
	}
	if way := b.State().Way; way != puller.WayAlias {
		t.Errorf("the way is %s: the engine was not at fault", way)
	}
}
