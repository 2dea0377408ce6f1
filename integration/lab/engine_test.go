package lab_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
)

func TestEngine(t *testing.T) {
	ctx := t.Context()
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	engine, err := lab.Private(ctx, dir, lab.PrivateOptions{Logf: t.Logf})
	lab.Need(t, err)
	defer engine.Close()
	registry := newRegistry(t, lab.RegistryOptions{})
	ref, layers := push(t, registry, "team/app", 1, 1<<20)

	if has, err := engine.HasImage(ctx, ref); has || err != nil {
		t.Fatalf("before the pull: %v, %v", has, err)
	}
	if err := pull(ctx, engine, ref, nil); err != nil {
		t.Fatal(err)
	}
	if has, err := engine.HasImage(ctx, ref); !has || err != nil {
		t.Fatalf("after the pull: %v, %v", has, err)
	}
	counts := registry.Counts()
	t.Logf("%+v", counts)
	if counts.ManifestGets == 0 || counts.BlobGets != len(layers)+1 { // and the config
		t.Errorf("%+v", counts)
	}
	for _, digest := range layers {
		if n := counts.ByPath["GET /v2/team/app/blobs/"+digest]; n != 1 {
			t.Errorf("%s: asked for %d times", digest, n)
		}
	}
	registry.ResetCounts()
	if counts := registry.Counts(); counts.BlobGets != 0 || len(counts.ByPath) != 0 {
		t.Errorf("after the reset: %+v", counts)
	}
	if n, err := engine.Goroutines(ctx); n == 0 || err != nil {
		t.Errorf("goroutines: %d, %v", n, err)
	}
	slow, _ := push(t, registry, "slow", 1, 8<<20)
	registry.Throttle(64 << 10)
	held, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan error, 1)
	go func() { left <- pull(held, engine, slow, nil) }()
	for _, pulls := range []bool{true, false} {
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		err := lab.Poll(soon, 100*time.Millisecond, func(context.Context) error {
			stacks, err := engine.Pulling()
			if err == nil && len(stacks) > 0 != pulls {
				err = fmt.Errorf("in a pull: %q", stacks)
			}
			return err
		})
		cancel()
		if err != nil {
			t.Errorf("%v, it pulls: %v", pulls, err)
		}
		leave()
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the pull ended with %v", err)
	}
	registry.Throttle(0)

	t.Setenv("DOCKER_HOST", engine.Host)
	found, err := lab.Find(ctx, dir, t.Logf)
	if err != nil || found.Host != engine.Host || found.Private() {
		t.Fatalf("found %+v, %v", found, err)
	}
	if err := errors.Join(found.Stop(), found.Kill()); err == nil {
		t.Error("somebody's engine can be stopped")
	}
	if err := found.Close(); err != nil {
		t.Error(err)
	}

	if err := engine.Pause(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := engine.Ping(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("paused, it answers %v", err)
	}
	if err := engine.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := engine.Ping(ctx); err != nil {
		t.Fatal(err)
	}

	before, err := engine.ImageID(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{"kill": engine.Kill, "stop": engine.Stop} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := engine.Ping(ctx); err == nil {
			t.Fatalf("after %s it answers", name)
		}
		if err := engine.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if id, err := engine.ImageID(ctx, ref); id != before || err != nil {
			t.Errorf("after %s and start: image %q, %v", name, id, err)
		}
	}
	if err := engine.Start(ctx); err == nil {
		t.Error("started twice")
	}
	for range 2 {
		if err := engine.RemoveImage(ctx, ref); err != nil {
			t.Error(err)
		}
	}
	if has, err := engine.HasImage(ctx, ref); has || err != nil {
		t.Errorf("after its removal: %v, %v", has, err)
	}
	for range 2 {
		if err := engine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if found := traces(t, dir); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestEngineFaults(t *testing.T) {
	engine := lab.NeedPrivate(t, lab.PrivateOptions{TmpfsMiB: 24})
	registry := newRegistry(t, lab.RegistryOptions{Username: "user", Password: "pass"})
	auth := http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString([]byte(`{"username":"user","password":"pass"}`))}}
	small, layers := push(t, registry, "small", 1, 1<<20)
	large, _ := push(t, registry, "large", 2, 32<<20)
	ctx := t.Context()

	if err := pull(ctx, engine, small, nil); err == nil || !strings.Contains(err.Error(), "no basic auth credentials") {
		t.Errorf("without credentials: %v", err)
	}
	registry.CorruptBlob(layers[1])
	if err := pull(ctx, engine, small, auth); err == nil || !strings.HasPrefix(err.Error(), "in the stream: ") {
		t.Errorf("corrupt blob: %v", err)
	} else {
		t.Log(err)
	}
	registry.Heal()
	if err := pull(ctx, engine, large, auth); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("full disk: %v", err)
	} else {
		t.Log(err)
	}
	if err := pull(ctx, engine, small, auth); err != nil {
		t.Errorf("healed: %v", err)
	}
}

// An earlier run may have been killed, leaving engine, containers, mounts and files, at
// a place too long for sockets besides.
func TestEngineAfterCrash(t *testing.T) {
	ctx := t.Context()
	parent, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, strings.Repeat("long", 25))
	old, err := lab.Private(ctx, dir, lab.PrivateOptions{TmpfsMiB: 64})
	lab.Need(t, err)
	defer old.Close()

	hello := filepath.Join(parent, "hello")
	if err := lab.BuildStatic(ctx, filepath.Join("testdata", "hello"), hello); err != nil {
		t.Fatal(err)
	}
	image, err := lab.BinaryImage(hello, "")
	if err != nil {
		t.Fatal(err)
	}
	registry := newRegistry(t, lab.RegistryOptions{})
	if _, err := registry.Push(ctx, "hello", "1", image); err != nil {
		t.Fatal(err)
	}
	if err := pull(ctx, old, registry.Ref("hello", "1"), nil); err != nil {
		t.Fatal(err)
	}
	run := func(name, body string) {
		t.Helper()
		json := http.Header{"Content-Type": {"application/json"}}
		for _, call := range []struct{ path, body string }{
			{"/containers/create?name=" + name, body}, {"/containers/" + name + "/start", ""},
		} {
			resp, err := old.Do(ctx, http.MethodPost, call.path, json, strings.NewReader(call.body))
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode >= 300 {
				t.Fatalf("%s: %s: %s", call.path, resp.Status, answer)
			}
		}
	}
	ref := registry.Ref("hello", "1")
	body := `{"Image":"` + ref + `","Cmd":["stay","` + filepath.Base(parent) + `"],"HostConfig":{"NetworkMode":"none"}}`
	run("first", body)
	if err := errors.Join(old.Kill(), old.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	run("second", body)
	// A container that has started can still have to become its program, which
	// begins by saying so.
	said, err := old.Do(ctx, http.MethodGet, "/containers/second/logs?stdout=1&follow=1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Body.Close()
	if line, err := bufio.NewReader(said.Body).ReadString('\n'); err != nil {
		t.Fatalf("it says %q: %v", line, err)
	}
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	sockets := filepath.Dir(strings.TrimPrefix(old.Host, "unix://"))
	left := strings.Join(traces(t, filepath.Base(parent), sockets), "\n")
	for _, trace := range []string{"merged", "/app", "containerd-shim"} {
		if !strings.Contains(left, trace) {
			t.Errorf("the crash left no %s, so nothing is shown here:\n%s", trace, left)
		}
	}

	engine, err := lab.Private(ctx, dir, lab.PrivateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if has, err := engine.HasImage(ctx, ref); has || err != nil {
		t.Errorf("the old data is there: %v, %v", has, err)
	}
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
	if found := traces(t, filepath.Base(parent), sockets); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
	if _, err := os.Stat(sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", sockets, err)
	}
}

func TestEngineThatCannotStart(t *testing.T) {
	lab.NeedPrivate(t, lab.PrivateOptions{}).Close() // one can be had
	dir := t.TempDir()
	_, err := lab.Private(t.Context(), dir, lab.PrivateOptions{Flags: []string{"--storage-driver=nonesuch"}})
	// dockerd's last line. The driver's name is in one before, of which some are told.
	if err == nil || !strings.Contains(err.Error(), "driver not supported") {
		t.Errorf("the log is not in %v", err)
	}
	if found := traces(t, dir); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
}
