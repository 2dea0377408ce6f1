package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/fleettest"
)

// startFleet serves the API of a fleet in memory with the hosts one and two, which are live,
// and three, which is away. It returns its address.
func startFleet(t *testing.T) (string, *fleettest.Fleet) {
	t.Helper()
	f := fleettest.New()
	f.Add(
		fleet.Host{ID: "one", Zone: "a", Live: true, Labels: map[string]string{"role": "ci"}, Version: "1.2.0", Platform: "linux/amd64"},
		fleet.Host{ID: "three", Labels: map[string]string{"role": "ci"}, Invited: true},
		fleet.Host{ID: "two", Live: true, Labels: map[string]string{"role": "ci"}, Error: "another host has its ID"},
	)
	log := logrus.New()
	log.SetOutput(io.Discard)
	path := filepath.Join(directory(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	handler := api.New(nil, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Fleet: f})
	server := connections.NewServer(contracttest.Wrap(t, handler))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		f.Close()
		server.Close()
		handler.Wait(context.Background())
		serving.Wait()
	})
	return "unix://" + path, f
}

func TestFleet(t *testing.T) {
	host, f := startFleet(t)
	creds := filepath.Join(t.TempDir(), "fleet.creds")
	runCommands(t, host, []struct {
		want  int
		words []string
		args  []string
	}{
		{0, []string{"fleet test: host leader is up since", "it may change the fleet; 2 hosts live; acting controller leader"}, []string{"fleet"}},
		{0, []string{"SET", "GENERATION"}, []string{"fleet", "show"}},
		{0, []string{"web: generation 1, 2 waiting, 1 away, rollout done", "docker.io/library/redis:7", "sha256:"}, []string{"fleet", "apply", "web", "redis:7", "--hosts", "role=ci", "--wave", "50%"}},
		{0, []string{`"generation":2`}, []string{"fleet", "apply", "web", "redis:7", "--json"}},
		{0, []string{"web", "2 waiting, 1 away", "ROLLOUT"}, []string{"fleet", "show"}},
		{0, []string{"web\n"}, []string{"fleet", "show", "-q"}},
		{0, []string{"web  2"}, []string{"fleet"}},
		{0, []string{`"link":{`, `"sets":[{`}, []string{"fleet", "--json"}},
		{0, []string{"web: paused; web: generation 2"}, []string{"fleet", "pause", "web"}},
		{0, []string{"rollout running"}, []string{"fleet", "resume", "web"}},
		{0, []string{"rollout canceled"}, []string{"fleet", "cancel", "web"}},
		{0, []string{"HOST", "one", "live", "1.2.0", "linux/amd64", "role=ci", "never", "another host has its ID"}, []string{"fleet", "hosts"}},
		{0, []string{"three\n"}, []string{"fleet", "hosts", "--away", "--label", "role=ci", "-q"}},
		{0, []string{`{"hosts":[]}`}, []string{"fleet", "hosts", "--label", "role=web", "--json"}},
		{0, []string{"fleet: {name: test, url: \"tls://", "-----BEGIN", "secret"}, []string{"fleet", "invite", "new", "--label", "role=ci"}},
		{0, []string{"on new, make " + creds + " the file"}, []string{"fleet", "invite", "new", "--out", creds}},
		{1, []string{"file exists"}, []string{"fleet", "invite", "new", "--out", creds}},
		{exit.CodePermanent, []string{"host: "}, []string{"fleet", "invite", "-q", "a b", "--out", creds + "2"}},
		{0, []string{"three: removed from the fleet"}, []string{"fleet", "uninvite", "three"}},
		{1, []string{"one is live"}, []string{"fleet", "uninvite", "one"}},
		{0, []string{"web: forgotten"}, []string{"fleet", "rm", "web"}},
		{exit.CodePermanent, []string{"there is no set"}, []string{"fleet", "show", "web"}},
		{exit.CodePermanent, []string{"there is no set"}, []string{"fleet", "watch", "web"}},
		{exit.CodePermanent, []string{"name: "}, []string{"fleet", "apply", "a.b", "redis"}},
		{exit.CodePermanent, []string{"state: "}, []string{"fleet", "show", "web", "--state", "lost"}},
		{exit.CodeUsage, []string{"SET is missing"}, []string{"fleet", "apply"}},
		{exit.CodeUsage, []string{"IMAGE is missing"}, []string{"fleet", "apply", "web"}},
		{exit.CodeUsage, []string{"--timeout is for --wait"}, []string{"fleet", "apply", "web", "redis", "--timeout", "1m"}},
		{exit.CodeUsage, []string{"--hosts"}, []string{"fleet", "apply", "web", "redis", "--hosts", "ci"}},
		{exit.CodeUsage, nil, []string{"fleet", "pause"}},
		{exit.CodeUsage, nil, []string{"fleet", "mend"}},
	})
	code, out, _, err := runApart(t.Context(), "fleet", "invite", "new", "--zone", "a", "--replace", "--controller", "--host", host)
	if want := (fleet.InviteRequest{Host: "new", Zone: "a", Replace: true, Controller: true}); code != 0 || out != "-----BEGIN NATS USER JWT-----\nsecret\n" || cmp.Diff(want, f.Invited(), cmpopts.IgnoreUnexported(want)) != "" {
		t.Errorf("%d, %v: %q of %+v", code, err, out, f.Invited())
	}
	if raw, err := os.ReadFile(creds); err != nil || !strings.Contains(string(raw), "secret") {
		t.Errorf("%q, %v", raw, err)
	}
	if info, err := os.Stat(creds); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(creds + "2"); err == nil {
		t.Error("the file of an invitation that failed is left")
	}
	f.Fail(puller.Errorf(puller.ErrForbidden, "this host is no controller"))
	if code, _, err := run(t.Context(), "fleet", "apply", "web", "redis", "--host", host); code != exit.CodePermanent {
		t.Error(code, err)
	}
}

func TestFleetFiles(t *testing.T) {
	host, f := startFleet(t)
	dir := t.TempDir()
	t.Setenv("TAG", "7")
	for name, c := range map[string]struct {
		content string
		args    []string
		want    fleet.SetRequest
	}{
		"shop.yaml": {
			"services: {db: {image: 'redis:${TAG}'}, own: {build: .}}\nx-towline: {schedule: '@daily', hosts: {role: ci}, rollout: {canary: '1', wave: 10%}, protect: false}", []string{"--wave", "20%", "--pause", "1m"},
			fleet.SetRequest{
				Images: puller.Images{{Image: "docker.io/library/redis:7"}}, Schedule: "@daily", Hosts: map[string]string{"role": "ci"}, Protect: new(false),
				Rollout: fleet.RolloutRequest{Canary: "1", Wave: "20%", Pause: "1m"},
			},
		},
		"list.yaml": {
			"name: listed\nimages: [redis:7, nginx]\nhosts: {role: ci}\nrollout: {max_failures: '0'}\n", []string{"--hosts", "zone=a,role=web", "--no-protect", "--priority", "high"},
			fleet.SetRequest{
				Images: puller.Images{{Image: "redis:7"}, {Image: "nginx"}}, Hosts: map[string]string{"role": "web", "zone": "a"}, Protect: new(false), Priority: puller.PriorityHigh,
				Rollout: fleet.RolloutRequest{MaxFailures: "0"},
			},
		},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, err := run(t.Context(), append([]string{"fleet", "apply", "-f", path, "--host", host}, c.args...)...); code != 0 {
			t.Fatal(code, out, err)
		}
		if diff := cmp.Diff(c.want, f.Asked(), cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(puller.Credentials{}, puller.PullRequest{}, fleet.SetRequest{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, name := range []string{"shop", "listed"} {
		if _, err := f.Set(name); err != nil {
			t.Error(err)
		}
	}
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("images: [redis]\nrollout: {waves: 1}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, err := run(t.Context(), "fleet", "apply", "-f", bad, "--host", host); code != exit.CodePermanent || !strings.Contains(err.Error(), "waves: there is no such field") {
		t.Error(code, err)
	}
}

func TestFleetWait(t *testing.T) {
	full := puller.Errorf(puller.ErrNoSpace, "the disk is full")
	for name, c := range map[string]struct {
		args  []string
		last  fleet.State
		err   error
		code  int
		words []string
		not   []string
	}{
		"proven": {nil, fleet.StateProven, nil, 0, []string{"web: generation 1, 2 proven, 1 away, rollout done\n", "three  away"}, []string{"one  ", "\n\n"}},
		"failed": {nil, fleet.StateFailed, full, 1, []string{"two    failed", "no_space: the disk is full", "1 of 3 hosts have not proven it"}, nil},
		"denied": {nil, fleet.StateRefused, puller.Errorf(puller.ErrForbidden, "a rule"), exit.CodePermanent, []string{"two    refused"}, nil},
		"quiet":  {[]string{"-q"}, fleet.StateProven, nil, 0, nil, []string{"web"}},
		"json":   {[]string{"--json"}, fleet.StateProven, nil, 0, []string{`"type":"set"`}, []string{"HOST"}},
		"late":   {[]string{"--timeout", "50ms"}, fleet.StatePulling, nil, 1, []string{"within 50ms", "two    pulling"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			host, f := startFleet(t)
			var code int
			var out string
			var err error
			done := make(chan struct{})
			go func() {
				code, out, err = run(t.Context(), append([]string{"fleet", "apply", "web", "redis:7", "--wait", "--host", host}, c.args...)...)
				close(done)
			}()
			for {
				if _, err := f.Set("web"); err == nil {
					break
				}
				<-time.After(time.Millisecond)
			}
			f.Report("web", "one", fleet.StateProven, nil)
			f.Report("web", "two", c.last, c.err)
			<-done
			if code != c.code {
				t.Errorf("exit code %d, %v: %s", code, err, out)
			}
			if err != nil {
				out += err.Error()
			}
			checkWords(t, out, c.words...)
			for _, word := range c.not {
				if strings.Contains(out, word) {
					t.Errorf("%q is in %s", word, out)
				}
			}
		})
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// until waits until a text has been written.
func (b *buffer) until(t *testing.T, text string) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); !strings.Contains(b.String(), text); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%q is not written:\n%s", text, b.String())
		}
	}
}

func TestFleetWatch(t *testing.T) {
	host, f := startFleet(t)
	if code, _, err := run(t.Context(), "fleet", "apply", "web", "redis:7", "--host", host); code != 0 {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args       []string
		first, end string
	}{
		"all":  {nil, "web: generation 1", "web: forgotten"},
		"set":  {[]string{"web"}, "web: two failed: denied: " + strings.Repeat("x", 3), "web: generation 1, 1 failed"},
		"json": {[]string{"--json"}, `"type":"set"`, `"type":"removed"`},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if _, err := f.PutSet(ctx, "web", fleet.SetRequest{Images: puller.Images{{Image: "redis"}}}); err != nil {
				t.Fatal(err)
			}
			f.Report("web", "two", fleet.StateFailed, puller.Errorf(puller.ErrDenied, "xxx\x1b[2J"))
			var out buffer
			done := make(chan int)
			go func() {
				code, _ := runTo(ctx, &out, io.Discard, append([]string{"fleet", "watch", "--host", host}, c.args...)...)
				done <- code
			}()
			out.until(t, strings.Replace(c.first, "generation 1", "generation", 1))
			f.DeleteSet(ctx, "web")
			if name != "set" {
				out.until(t, c.end)
			}
			cancel()
			if code := <-done; code != exit.CodeInterrupted {
				t.Errorf("exit code %d", code)
			}
			if name != "json" {
				checkSafe(t, out.String())
				return
			}
			for line := range strings.Lines(out.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %s", line)
				}
			}
		})
	}
}

func TestFleetCompletion(t *testing.T) {
	host, f := startFleet(t)
	for i := range 2 {
		if _, err := f.PutSet(t.Context(), fmt.Sprint("set", i), fleet.SetRequest{Images: puller.Images{{Image: "redis"}}}); err != nil {
			t.Fatal(err)
		}
	}
	for want, args := range map[string][]string{
		"set0\nset1\n:4\n":       {"fleet", "show", ""},
		"set1\n:4\n":             {"fleet", "rm", "set0", ""},
		"one\nthree\ntwo\n:4\n":  {"fleet", "uninvite", ""},
		"proven\npulling\nwaiti": {"fleet", "show", "--state", ""},
	} {
		_, out, _, err := runApart(t.Context(), append([]string{"__complete", "--host", host}, args...)...)
		if err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
}

func TestNoFleet(t *testing.T) {
	host, _, _ := startDaemon(t)
	for _, args := range [][]string{{"fleet", "apply", "web", "redis"}, {"fleet"}, {"fleet", "hosts"}} {
		code, _, err := run(t.Context(), append(args, "--host", host)...)
		if code != exit.CodePermanent || !strings.Contains(err.Error(), "fleet.embedded") {
			t.Error(args, code, err)
		}
	}
}
