package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest/testprogram"
)

// ContainerFixture is an engine under test, which runs containers.
type ContainerFixture struct {
	Engine engines.Engine
	// Image is the ID of one that the engine has: its entrypoint is /app, the
	// test program. Nothing else is in it.
	Image string
	// OOM says that the engine reports out-of-memory kills. Not every machine does.
	OOM bool
}

// TestContainers tests the contract of engines.Engine for containers.
func TestContainers(t *testing.T, f ContainerFixture) {
	t.Run("exit code", f.testExit)
	t.Run("instant exit", f.testInstant)
	t.Run("order of lines", f.testLines)
	t.Run("all bytes", f.testBytes)
	t.Run("terminal", f.testTTY)
	t.Run("large output", f.testLarge)
	t.Run("request", f.testRequest)
	t.Run("restrictions", f.testRestrictions)
	t.Run("out of memory", f.testOOM)
	t.Run("stop", f.testStop)
	t.Run("follow running", f.testFollow)
	t.Run("follow exited", f.testFollowLate)
	t.Run("ctx ends", f.testContextEnds)
	t.Run("list and remove", f.testContainers)
	t.Run("keeps its image", f.testKeepsImage)
	t.Run("refused", f.testRefused)
}

// output is what a container has printed.
type output struct {
	stdout, stderr bytes.Buffer
	calls          int
	most           int // bytes in a call
}

func (h *output) each(s puller.Output, p []byte) {
	h.calls++
	h.most = max(h.most, len(p))
	if s == puller.Stderr {
		h.stderr.Write(p)
		return
	}
	h.stdout.Write(p)
}

const suiteLabel = "towline.suite"

func (f ContainerFixture) container(steps ...string) engines.Container {
	return engines.Container{Image: f.Image, Cmd: steps, Network: "none", Pids: 100, Labels: map[string]string{suiteLabel: "all"}}
}

// create makes a container. The end of the test removes it.
func (f ContainerFixture) create(t *testing.T, c engines.Container) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	id, _, err := f.Engine.Create(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Engine.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return id
}

// run creates and runs a container to its end.
func (f ContainerFixture) run(t *testing.T, c engines.Container) (engines.Exit, *output) {
	t.Helper()
	id := f.create(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var h output
	started := 0
	exit, err := f.Engine.Run(ctx, id, c.TTY, func() { started++ }, h.each)
	if err != nil {
		t.Fatalf("it ran, and then: %v\n%s%s", err, h.stdout.String(), h.stderr.String())
	}
	if started != 1 {
		t.Errorf("started was called %d times", started)
	}
	return exit, &h
}

func (f ContainerFixture) testExit(t *testing.T) {
	for _, code := range []int{0, 1, 137} {
		exit, _ := f.run(t, f.container(fmt.Sprintf("exit=%d", code)))
		if exit != (engines.Exit{Code: code}) {
			t.Errorf("exit %d is reported as %+v", code, exit)
		}
	}
}

func (f ContainerFixture) testInstant(t *testing.T) {
	for n := range 15 {
		stdout, stderr := fmt.Sprintf("out %d", n), fmt.Sprintf("err %d\n", n)
		_, h := f.run(t, f.container("out="+stdout, "err="+stderr))
		if h.stdout.String() != stdout || h.stderr.String() != stderr {
			t.Errorf("run %d: got %q and %q", n, h.stdout.String(), h.stderr.String())
		}
	}
}

func (f ContainerFixture) testLines(t *testing.T) {
	const n = 500
	_, h := f.run(t, f.container(fmt.Sprintf("lines=%d", n)))
	var stdout, stderr strings.Builder
	for i := range n {
		fmt.Fprintf(&stdout, "stdout %d\n", i)
		fmt.Fprintf(&stderr, "stderr %d\n", i)
	}
	if h.stdout.String() != stdout.String() || h.stderr.String() != stderr.String() {
		t.Errorf("got other lines: %d and %d bytes, not %d and %d", h.stdout.Len(), h.stderr.Len(), stdout.Len(), stderr.Len())
	}
}

func (h *output) wantAll(t *testing.T) {
	t.Helper()
	if !bytes.Equal(h.stdout.Bytes(), testprogram.AllBytes()) || !bytes.Equal(h.stderr.Bytes(), append(testprogram.AllBytes(), testprogram.AllBytes()...)) {
		t.Errorf("got %q and %q", h.stdout.Bytes(), h.stderr.Bytes())
	}
}

func (f ContainerFixture) testBytes(t *testing.T) {
	_, h := f.run(t, f.container("bytes"))
	h.wantAll(t)
}

func (f ContainerFixture) testTTY(t *testing.T) {
	c := f.container("out=a\n\x1b[1mb", "err=c\n")
	c.TTY = true
	_, h := f.run(t, c)
	if got := h.stdout.String(); got != "a\r\n\x1b[1mbc\r\n" || h.stderr.Len() > 0 {
		t.Errorf("got %q and %q", got, h.stderr.String())
	}
}

func (f ContainerFixture) testLarge(t *testing.T) {
	const n = 4 << 20
	_, h := f.run(t, f.container(fmt.Sprintf("random=%d", n)))
	if !bytes.Equal(h.stdout.Bytes(), testprogram.RandomBytes(n)) {
		t.Errorf("got %d bytes, not the %d that were printed", h.stdout.Len(), n)
	}
	if h.most > 64<<10 {
		t.Errorf("got %d bytes at once", h.most)
	}
}

func (f ContainerFixture) self(t *testing.T, c engines.Container) testprogram.Self {
	t.Helper()
	_, h := f.run(t, c)
	var self testprogram.Self
	if err := json.Unmarshal(h.stdout.Bytes(), &self); err != nil {
		t.Fatalf("%v: %q %q", err, h.stdout.String(), h.stderr.String())
	}
	return self
}

func (f ContainerFixture) testRequest(t *testing.T) {
	c := f.container("self")
	c.Env = []string{"TOWLINE_A=1 = 2", "TOWLINE_B="}
	c.Workdir, c.User, c.Platform = "/some/where", "1234:5678", "linux/amd64"
	self := f.self(t, c)
	if !slices.Equal(self.Args, []string{"/app", "self"}) || self.Dir != c.Workdir || self.UID != 1234 || self.GID != 5678 {
		t.Errorf("it got %+v", self)
	}
	for _, env := range c.Env {
		if !slices.Contains(self.Env, env) {
			t.Errorf("%q is not in its environment, %q", env, self.Env)
		}
	}
	c.Entrypoint, c.Cmd = []string{"/app", "err=x"}, []string{"out=  two words"}
	if _, h := f.run(t, c); h.stdout.String() != "  two words" || h.stderr.String() != "x" {
		t.Errorf("with another entrypoint got %q and %q", h.stdout.String(), h.stderr.String())
	}
}

func (f ContainerFixture) testRestrictions(t *testing.T) {
	self := f.self(t, f.container("self"))
	if strings.Trim(self.CapEff, "0") != "" || self.CapEff == "" || self.NoNewPrivs != "1" {
		t.Errorf("it has capabilities %s, and no-new-privileges is %s", self.CapEff, self.NoNewPrivs)
	}
	if !slices.Equal(self.Interfaces, []string{"lo"}) {
		t.Errorf("without a network, it has %v", self.Interfaces)
	}
}

func (f ContainerFixture) testOOM(t *testing.T) {
	if !f.OOM {
		t.Skip("this engine does not report it")
	}
	c := f.container("out=hungry", fmt.Sprintf("alloc=%d", 512<<20))
	c.Memory = 48 << 20
	exit, h := f.run(t, c)
	// An engine on a busy host may learn of the exit alone: the kernel's note of why is
	// removed with the container's control group.
	for try := 0; try < 3 && exit.Code == 137 && !exit.OOMKilled; try++ {
		exit, h = f.run(t, c)
	}
	if exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("it exited as %+v", exit)
	}
	if h.stdout.String() != "hungry" {
		t.Errorf("got %q", h.stdout.String())
	}
}

func (f ContainerFixture) testContainers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	label := func(c engines.Container, value string) engines.Container {
		c.Labels = map[string]string{suiteLabel: value, "other": "x=y"}
		return c
	}
	f.create(t, label(f.container("exit=0"), "theirs"))
	created := f.create(t, label(f.container("exit=0"), "ours"))
	exited := f.create(t, label(f.container("exit=0"), "ours"))
	if _, err := f.Engine.Run(ctx, exited, false, func() {}, (&output{}).each); err != nil {
		t.Fatal(err)
	}
	running, wait := f.running(t, ctx, label(f.container("out=up", "sleep=1h"), "ours"))
	states, err := f.Engine.Containers(ctx, suiteLabel, "ours")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, s := range states {
		got[s.ID] = s.Started
		if s.Labels["other"] != "x=y" {
			t.Errorf("its labels are %v", s.Labels)
		}
	}
	if len(got) != 3 || got[created] || !got[exited] || !got[running] {
		t.Errorf("it found %v; created was %s, exited %s, running %s", got, created, exited, running)
	}
	for id := range got {
		for range 2 {
			if err := f.Engine.Remove(ctx, id); err != nil {
				t.Error(err)
			}
		}
	}
	wait() // engines differ in its error
	if states, err := f.Engine.Containers(ctx, suiteLabel, "ours"); err != nil || len(states) != 0 {
		t.Errorf("after their removal it finds %v, %v", states, err)
	}
}

func (f ContainerFixture) testRefused(t *testing.T) {
	with := func(change func(*engines.Container)) engines.Container {
		c := f.container("exit=0")
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		container engines.Container
		kind      puller.ErrorKind
	}{
		"no such image":         {with(func(c *engines.Container) { c.Image = "sha256:" + strings.Repeat("0", 64) }), puller.ErrNotFound},
		"little memory":         {with(func(c *engines.Container) { c.Memory = 1 << 10 }), puller.ErrInvalidRequest},
		"no such program":       {with(func(c *engines.Container) { c.Entrypoint = []string{"no space left on device"} }), puller.ErrInvalidRequest},
		"no such file":          {with(func(c *engines.Container) { c.Entrypoint = []string{"/unauthorized"} }), puller.ErrInvalidRequest},
		"a directory":           {with(func(c *engines.Container) { c.Entrypoint = []string{"/proc"} }), puller.ErrInvalidRequest},
		"no such user":          {with(func(c *engines.Container) { c.User = "somebody" }), puller.ErrInvalidRequest},
		"no such group":         {with(func(c *engines.Container) { c.User = "1:something" }), puller.ErrInvalidRequest},
		"a file for a workdir":  {with(func(c *engines.Container) { c.Workdir = "/app" }), puller.ErrInvalidRequest},
		"below one for workdir": {with(func(c *engines.Container) { c.Workdir = "/app/x" }), puller.ErrInvalidRequest},
		"too many CPUs":         {with(func(c *engines.Container) { c.NanoCPUs = 1e15 }), puller.ErrInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			id, _, err := f.Engine.Create(ctx, c.container)
			if err == nil {
				_, err = f.Engine.Run(ctx, id, false, func() { t.Error("started was called") }, (&output{}).each)
				if err := f.Engine.Remove(ctx, id); err != nil {
					t.Error(err)
				}
			}
			wantKind(t, err, c.kind)
			t.Log(err)
		})
	}
}
