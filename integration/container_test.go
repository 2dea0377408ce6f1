package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream"
)

// testProgramImage has the shared engine pull the test program's image and returns its ID.
func testProgramImage(t *testing.T, engine *docker.Engine) string {
	t.Helper()
	t.Cleanup(func() { remove(t, site.registry.Ref("testprogram", "v1")) })
	return testProgramImageOn(t, engine)
}

// testProgramImageOn is that for an engine that keeps it.
func testProgramImageOn(t *testing.T, engine *docker.Engine) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "testprogram")
	if err := lab.BuildStatic(t.Context(), "lab/testdata/testprogram", program); err != nil {
		t.Fatal(err)
	}
	image, err := lab.BinaryImage(program, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.registry.Push(t.Context(), "testprogram", "v1", image); err != nil {
		t.Fatal(err)
	}
	ref := site.registry.Ref("testprogram", "v1")
	if err := engine.Pull(t.Context(), puller.Pull{Image: ref}, func(pullstream.Message) {}); err != nil {
		t.Fatal(err)
	}
	found, err := engine.Inspect(t.Context(), ref, "")
	if err != nil {
		t.Fatal(err)
	}
	return found.ID
}

func TestRealContainersConform(t *testing.T) {
	lab.Need(t, site.err)
	engine, err := docker.New(docker.Options{Host: site.engine.Host})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	enginetest.TestContainers(t, enginetest.ContainerFixture{Engine: engine, Image: testProgramImage(t, engine), OOM: true})
}

// A dockerd that is killed takes no container along. The one that comes back ends
// those that it finds running, and knows how the others have ended; where it
// can't, it says 255 (20.10).
func TestRunEngineKilled(t *testing.T) {
	lab.Need(t, site.err)
	own := lab.NeedPrivate(t, lab.PrivateOptions{})
	engine, err := docker.New(docker.Options{Host: own.Host})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	image := testProgramImageOn(t, engine)
	for _, c := range []struct {
		steps  []string
		away   time.Duration
		code   int
		reboot bool // the container's processes are gone as well
	}{
		{[]string{"out=up\n", "sleep=1h"}, 0, 143, false},
		{[]string{"out=up\n", "sleep=1s", "exit=7"}, 3 * time.Second, 7, false},
		{[]string{"out=up\n", "sleep=1h"}, 0, 255, true},
	} {
		id, _, err := engine.Create(t.Context(), engines.Container{Image: image, Cmd: c.steps, Network: "none", Pids: 100})
		if err != nil {
			t.Fatal(err)
		}
		up := make(chan struct{}, 1)
		ended := make(chan error, 1)
		go func() {
			_, err := engine.Run(t.Context(), id, false, func() {}, func(puller.Output, []byte) { up <- struct{}{} })
			ended <- err
		}()
		<-up
		if err := own.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; puller.KindOf(err) != puller.ErrEngineUnavailable {
			t.Errorf("the kind is %q: %v", puller.KindOf(err), err)
		}
		if c.reboot {
			killProcessesOf(t, id)
		}
		<-time.After(c.away)
		if err := own.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		exit, err := engine.Follow(t.Context(), id, false, func(_ puller.Output, p []byte) { text.Write(p) })
		// What it printed last may not have been written down.
		if err != nil || exit.Code != c.code || !strings.HasPrefix("up\n", text.String()) {
			t.Errorf("%v exited as %+v, %v, having printed %q", c.steps, exit, err, text.String())
		}
		if err := engine.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// killProcessesOf kills a container's shim and what it has started.
func killProcessesOf(t *testing.T, id string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file)
		if !strings.Contains(string(line), id) {
			continue
		}
		shim, _ := strconv.Atoi(strings.Split(file, "/")[2])
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", shim))
		for _, file := range threads {
			children, _ := os.ReadFile(file)
			for child := range strings.FieldsSeq(string(children)) {
				pid, _ := strconv.Atoi(child)
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		syscall.Kill(shim, syscall.SIGKILL)
	}
}
