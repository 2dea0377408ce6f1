package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/enginetest/testprogram"
	"github.com/towline/towline/puller/jobs"
)

// running is a Service that runs some programs at a time.
var running = jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Retries: 3, Timeout: 30 * time.Minute, Runs: 4}

// withRunDaemon runs a test with the image good served, whose program is p.
func withRunDaemon(t *testing.T, p enginetest.Program, test func(d *daemon)) {
	t.Helper()
	withDaemonOf(t, running, nil, func(d *daemon) {
		d.engine.Program(d.serve(good).ID, p)
		test(d)
	})
}

func (d *daemon) run(r puller.RunRequest) puller.Job {
	d.Helper()
	if r.Image == "" {
		r.Image = good
	}
	j, err := d.Service.Run(r)
	if err != nil {
		d.Fatal(err)
	}
	d.follow(j)
	return j
}

// wantExit waits for a run that is to succeed, with an exit code.
func (d *daemon) wantExit(j puller.Job, code int) puller.Job {
	d.Helper()
	v := d.end(j)
	if v.State != puller.StateSucceeded || v.Result == nil || v.Result.ExitCode == nil {
		d.Fatalf("the run is %s: %+v", v.State, v.Error)
	}
	if *v.Result.ExitCode != code {
		d.Fatalf("it exited with %d, not %d", *v.Result.ExitCode, code)
	}
	return v
}

// wantNoContainers checks that no container is left.
func (d *daemon) wantNoContainers() {
	d.Helper()
	synctest.Wait()
	for _, c := range d.engine.Containers() {
		d.Errorf("the container %s is left, %s", c.ID, c.Status)
	}
}

// printed puts together what log events say.
func printed(t testing.TB, events []puller.Event) (stdout, stderr string) {
	t.Helper()
	var out [2]strings.Builder
	for _, e := range events {
		if e.Type != "log" {
			continue
		}
		b, err := e.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		if e.Stream == puller.Stderr {
			i = 1
		}
		out[i].Write(b)
	}
	return out[0].String(), out[1].String()
}

// output returns all that a run printed, as a new reader gets it.
func (d *daemon) output(j puller.Job) (stdout, stderr string) {
	d.Helper()
	d.mu.Lock()
	delete(d.readers, j.ID)
	d.mu.Unlock()
	return printed(d, d.events(j))
}

// remarks returns what the notices of events say.
func remarks(events []puller.Event) string {
	var all []string
	for _, e := range events {
		if e.Type == "notice" {
			all = append(all, e.Message)
		}
	}
	return strings.Join(all, "\n")
}

// stuck makes calls about containers wait for their client, or for the function
// that it returns.
func (d *daemon) stuck(at string) (release func()) {
	gate := make(chan struct{})
	d.engine.OnContainer(func(call, _ string, gone <-chan struct{}) (int, string) {
		if call == at {
			select {
			case <-gate:
			case <-gone:
			}
		}
		return 0, ""
	})
	return func() { d.engine.OnContainer(nil); close(gate) }
}

func TestRun(t *testing.T) {
	t.Parallel()
	t.Run("exit code", testRunExitCode)
	t.Run("out of memory", testRunOutOfMemory)
	t.Run("engine error", testRunEngineError)
	t.Run("phases", testRunPhases)
	t.Run("output whole", testRunOutputWhole)
	t.Run("terminal", testRunTerminal)
	t.Run("container config", testRunContainerConfig)
	t.Run("cancel in every phase", testRunCancelInEveryPhase)
	t.Run("cancel grace", testRunCancelGrace)
	t.Run("timeout", testRunTimeout)
	t.Run("fails without container", testRunFailsWithoutContainer)
	t.Run("image pruned", testRunImagePruned)
	t.Run("tag moved", testRunTagMoved)
	t.Run("concurrency", testRunConcurrency)
	t.Run("bad field", testRunBadField)
	t.Run("idempotency key", testRunIdempotencyKey)
	t.Run("list", testRunList)
	t.Run("output end kept", testRunOutputEndKept)
	t.Run("output pruned", testRunOutputPruned)
}

func testRunExitCode(t *testing.T) {
	for _, code := range []int{0, 1, 137} {
		withRunDaemon(t, enginetest.Print("out", "err", code), func(d *daemon) {
			j := d.run(puller.RunRequest{})
			v := d.wantExit(j, code)
			if r := v.Result; r.OOMKilled || r.Truncated || r.Source != puller.SourcePulled || r.ImageID == "" || r.Digest == "" || r.DurationSeconds < 0 || v.Kind != puller.JobRun {
				d.Errorf("the result is %+v", r)
			}
			if stdout, stderr := printed(d, d.events(j)); stdout != "out" || stderr != "err" {
				d.Errorf("it printed %q and %q", stdout, stderr)
			}
			d.wantNoContainers()
		})
	}
}

func testRunOutOfMemory(t *testing.T) {
	withRunDaemon(t, (*enginetest.Process).OOM, func(d *daemon) {
		if v := d.wantExit(d.run(puller.RunRequest{}), 137); !v.Result.OOMKilled {
			d.Errorf("the result is %+v", v.Result)
		}
	})
}

// faultyEngine says that something went wrong beside a container's exit.
type faultyEngine struct{ engines.Engine }

func (e faultyEngine) Run(ctx context.Context, id string, tty bool, started func(), each func(puller.Output, []byte)) (engines.Exit, error) {
	exit, err := e.Engine.Run(ctx, id, tty, started, each)
	exit.Error = "the shim has died"
	return exit, err
}

func testRunEngineError(t *testing.T) {
	withDaemonOf(t, running, func(e engines.Engine) engines.Engine { return faultyEngine{e} }, func(d *daemon) {
		d.serve(good)
		v := d.failed(d.run(puller.RunRequest{}), puller.ErrInternal)
		if !strings.Contains(v.Error.Message, "the shim has died") {
			d.Errorf("the error is %q", v.Error.Message)
		}
		d.wantNoContainers()
	})
}

func testRunPhases(t *testing.T) {
	withRunDaemon(t, func(p *enginetest.Process) int {
		io.WriteString(p.Stdout(), "one")
		p.Wait(time.Second)
		io.WriteString(p.Stderr(), "two")
		return 0
	}, func(d *daemon) {
		j := d.run(puller.RunRequest{Policy: puller.PolicyAlways})
		d.wantExit(j, 0)
		want := []string{
			"state queued", "state active/resolving", "state active/pulling", "state active/verifying", "state active/creating",
			"state active/running", "log", "log", "state active/removing", "state succeeded", "result",
		}
		if got := numbered(d.events(j)); !slices.Equal(got, want) {
			d.Errorf("it told\n%q, not\n%q", got, want)
		}
		d.output(j) // a late reader's numbers grow too
		there := d.run(puller.RunRequest{})
		d.wantExit(there, 0)
		want = append([]string{"state queued"}, want[4:]...)
		if got := numbered(d.events(there)); !slices.Equal(got, want) {
			d.Errorf("of an image that is there it told\n%q, not\n%q", got, want)
		}
	})
}

func testRunOutputWhole(t *testing.T) {
	withRunDaemon(t, enginetest.TestProgram, func(d *daemon) {
		j := d.run(puller.RunRequest{Entrypoint: []string{"/app"}, Cmd: []string{"out=grüße", "bytes", "lines=200"}})
		d.wantExit(j, 0)
		events := d.events(j)
		var lines [2]strings.Builder
		for i := range 200 {
			fmt.Fprintf(&lines[0], "stdout %d\n", i)
			fmt.Fprintf(&lines[1], "stderr %d\n", i)
		}
		stdout, stderr := printed(d, events)
		if want := "grüße" + string(testprogram.AllBytes()) + lines[0].String(); stdout != want {
			d.Errorf("on stdout it printed %q", stdout)
		}
		if want := string(testprogram.AllBytes()) + string(testprogram.AllBytes()) + lines[1].String(); stderr != want {
			d.Errorf("on stderr it printed %q", stderr)
		}
		encodings := make(map[string]bool)
		for _, e := range events {
			if e.Type == "log" {
				encodings[e.Encoding] = true
			}
		}
		if !encodings[""] || !encodings["base64"] {
			d.Errorf("the encodings are %v", encodings)
		}
	})
}

func testRunTerminal(t *testing.T) {
	withRunDaemon(t, enginetest.Print("a\n", "b\n", 0), func(d *daemon) {
		j := d.run(puller.RunRequest{TTY: true})
		d.wantExit(j, 0)
		if stdout, stderr := printed(d, d.events(j)); stdout != "a\r\nb\r\n" || stderr != "" {
			d.Errorf("it printed %q and %q", stdout, stderr)
		}
	})
}

func testRunContainerConfig(t *testing.T) {
	withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
		j := d.run(puller.RunRequest{
			Platform: "linux/amd64", Cmd: []string{"a", "b c"}, Entrypoint: []string{"/x"}, Env: map[string]string{"Z": "1", "A": "x=y", "M": ""},
			Workdir: "/w", User: "1:2", Network: "none", Memory: 64 << 20, CPUs: 0.29, Pids: 7, TTY: true,
		})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		pids := int64(7)
		want := enginetest.ContainerRequest{
			Image: enginetest.NewImage(good, 1).ID, Cmd: []string{"a", "b c"}, Entrypoint: []string{"/x"}, Env: []string{"A=x=y", "M=", "Z=1"},
			WorkingDir: "/w", User: "1:2", Tty: true, AttachStdout: true, AttachStderr: true, StopSignal: "SIGTERM", Platform: "linux/amd64",
			Labels: map[string]string{"towline.job": j.ID, "towline.instance": d.store.Instance()},
			HostConfig: enginetest.HostConfig{
				CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
				Memory: 64 << 20, MemorySwap: 64 << 20, NanoCpus: 290_000_000, PidsLimit: &pids, NetworkMode: "none",
			},
		}
		got := d.engine.Containers()[0].Requested
		want.HostConfig.RestartPolicy.Name = "no"
		want.HostConfig.LogConfig = got.HostConfig.LogConfig
		if want.Name = got.Name; !strings.HasPrefix(got.Name, "towline-") || len(got.Name) < 32 {
			d.Errorf("the container's name is %q", got.Name)
		}
		if !reflect.DeepEqual(got, want) {
			d.Errorf("the engine was asked for\n%+v, not\n%+v", got, want)
		}
		plain := d.run(puller.RunRequest{})
		d.inState(plain, puller.StateActive, puller.PhaseRunning)
		got = d.engine.Containers()[1].Requested
		if h := got.HostConfig; h.NetworkMode != "bridge" || h.PidsLimit == nil || *h.PidsLimit != 1024 || h.Memory != 0 || h.NanoCpus != 0 || got.Entrypoint != nil || len(got.Env) != 0 {
			d.Errorf("without anything asked for, the engine was asked for %+v", got)
		}
	})
}

// Each phase of a run, and what holds it there.
var runPhases = map[string]struct {
	prepare func(d *daemon) (release func())
	state   puller.State
	phase   puller.Phase
}{
	"queued": {func(d *daemon) func() {
		gate := make(chan struct{})
		d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
			select {
			case <-gate:
			case <-gone:
			}
			return 0, ""
		})
		return func() { close(gate) }
	}, puller.StateQueued, ""},
	"pulling":  {func(d *daemon) func() { return d.hold(good) }, puller.StateActive, puller.PhasePulling},
	"creating": {func(d *daemon) func() { return d.stuck("create") }, puller.StateActive, puller.PhaseCreating},
	"created":  {func(d *daemon) func() { return d.stuck("attach") }, puller.StateActive, puller.PhaseCreating},
	"starting": {func(d *daemon) func() { return d.stuck("start") }, puller.StateActive, puller.PhaseCreating},
	"running":  {func(d *daemon) func() { return d.stuck("wait") }, puller.StateActive, puller.PhaseRunning},
	"removing": {func(d *daemon) func() { return d.stuck("remove") }, puller.StateActive, puller.PhaseRemoving},
}

func testRunCancelInEveryPhase(t *testing.T) {
	for name, c := range runPhases {
		t.Run(name, func(t *testing.T) {
			program := enginetest.Hang("")
			if c.phase == puller.PhaseRemoving {
				program = nil
			}
			withRunDaemon(t, program, func(d *daemon) {
				release := c.prepare(d)
				j := d.run(puller.RunRequest{})
				d.inState(j, c.state, c.phase)
				canceled := make(chan error)
				go func() { _, err := d.Cancel(j.ID); canceled <- err }()
				synctest.Wait()
				if c.phase != puller.PhasePulling && c.state != puller.StateQueued {
					release()
				}
				if err := <-canceled; err != nil {
					d.Error(err)
				}
				v := d.failed(j, puller.ErrCanceled)
				if took := v.FinishedAt.Sub(v.CreatedAt); took > 20*time.Second {
					d.Errorf("that took %s", took)
				}
				d.wantNoContainers()
			})
		})
	}
}

func testRunCancelGrace(t *testing.T) {
	for name, term := range map[string]bool{"SIGTERM is enough": false, "SIGTERM is ignored": true} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, func(p *enginetest.Process) int {
				if term {
					p.IgnoreTERM()
				}
				for i := 0; ; i++ {
					fmt.Fprintf(p.Stdout(), "%d,", i)
					if !p.Wait(time.Second) {
						return 0
					}
				}
			}, func(d *daemon) {
				j := d.run(puller.RunRequest{})
				<-time.After(2500 * time.Millisecond)
				began := time.Now()
				if _, err := d.Cancel(j.ID); err != nil {
					d.Error(err)
				}
				d.failed(j, puller.ErrCanceled)
				took, want := time.Since(began), "0,1,2,"
				if term {
					want = "0,1,2,3,4,5,6,7,8,9,10,11,12,"
				}
				if term != (took >= 10*time.Second) || took > 11*time.Second {
					d.Errorf("that took %s", took)
				}
				if stdout, _ := printed(d, d.events(j)); stdout != want {
					d.Errorf("it printed %q, not %q", stdout, want)
				}
				d.wantNoContainers()
			})
		})
	}
}

func testRunTimeout(t *testing.T) {
	for name, c := range runPhases {
		t.Run(name, func(t *testing.T) {
			program := enginetest.Hang("up")
			if c.phase == puller.PhaseRemoving {
				program = nil
			}
			withRunDaemon(t, program, func(d *daemon) {
				release := c.prepare(d)
				j := d.run(puller.RunRequest{Timeout: puller.Duration(30 * time.Second)})
				d.inState(j, c.state, c.phase)
				<-time.After(30 * time.Second)
				synctest.Wait()
				if c.phase != puller.PhasePulling && c.state != puller.StateQueued {
					release()
				}
				d.failed(j, puller.ErrTimeout)
				d.wantNoContainers()
			})
		})
	}
}

func testRunFailsWithoutContainer(t *testing.T) {
	for at, c := range map[string]struct {
		status  int
		message string
		kind    puller.ErrorKind
	}{
		"create": {http.StatusBadRequest, "Minimum memory limit allowed is 6MB", puller.ErrInvalidRequest},
		"start":  {http.StatusBadRequest, `OCI runtime create failed: runc create failed: unable to start container process: exec: "x": stat x: no such file or directory: unknown`, puller.ErrInvalidRequest},
		"attach": {http.StatusInternalServerError, "kaput", puller.ErrInternal},
		"wait":   {http.StatusInternalServerError, "kaput", puller.ErrInternal},
	} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, nil, func(d *daemon) {
				d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
					if call == at {
						return c.status, c.message
					}
					return 0, ""
				})
				v := d.failed(d.run(puller.RunRequest{}), c.kind)
				if !strings.Contains(v.Error.Message, c.message) {
					d.Errorf("the error is %q", v.Error.Message)
				}
				d.wantNoContainers()
			})
		})
	}
}

func testRunImagePruned(t *testing.T) {
	for name, times := range map[string]int{"once": 1, "again and again": 2} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Print("up", "", 0), func(d *daemon) {
				d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
					if call == "create" && times > 0 {
						times--
						d.engine.Remove(good)
					}
					return 0, ""
				})
				more := times > 1
				j := d.run(puller.RunRequest{})
				if more {
					d.failed(j, puller.ErrNotFound)
				} else {
					d.wantExit(j, 0)
				}
				d.wantPulls(2)
				if n := strings.Count(remarks(d.events(j)), "it is pulled again"); n != 1 {
					d.Errorf("it was told %d times", n)
				}
				d.wantNoContainers()
			})
		})
	}
}

func testRunTagMoved(t *testing.T) {
	withRunDaemon(t, enginetest.Print("proven", "", 0), func(d *daemon) {
		moved := enginetest.NewImage(good, 2)
		d.engine.Program(moved.ID, enginetest.Print("moved", "", 0))
		d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "create" {
				d.engine.Tag("registry.test/kept:v1", enginetest.NewImage(good, 1))
				d.engine.Tag(good, moved)
			}
			return 0, ""
		})
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 0)
		if stdout, _ := printed(d, d.events(j)); stdout != "proven" {
			d.Errorf("what ran is %s", stdout)
		}
	})
}

func testRunConcurrency(t *testing.T) {
	withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
		var jobs []puller.Job
		for range 6 {
			jobs = append(jobs, d.run(puller.RunRequest{}))
		}
		synctest.Wait()
		if n := len(d.engine.Containers()); n != 4 {
			d.Errorf("%d containers are there", n)
		}
		for _, j := range jobs {
			if _, err := d.Cancel(j.ID); err != nil {
				d.Error(err)
			}
		}
		d.wantNoContainers()
	})
}

func testRunBadField(t *testing.T) {
	long := strings.Repeat("x", 128<<10)
	for field, requests := range map[string][]puller.RunRequest{
		"image":      {{Image: "?"}},
		"platform":   {{Platform: "x"}},
		"policy":     {{Policy: "perhaps"}},
		"timeout":    {{Timeout: -1}},
		"cmd":        {{Cmd: []string{"a\x00b"}}, {Cmd: []string{long}}, {Cmd: []string{long[1:], long[1:], "x"}}},
		"entrypoint": {{Entrypoint: []string{"\x00"}}, {Cmd: []string{long[1:], long[2:]}, Entrypoint: []string{"xx"}}},
		"env":        {{Env: map[string]string{"": "x"}}, {Env: map[string]string{"A=B": "x"}}, {Env: map[string]string{"A": "\x00"}}, {Env: map[string]string{"A": long}}, {Env: map[string]string{"A": long[3:], "B": long[3:], "C": ""}}},
		"user":       {{User: "\x00"}},
		"workdir":    {{Workdir: "a"}, {Workdir: "./"}, {Workdir: "/\x00"}, {Workdir: "/" + strings.Repeat("x", 256)}, {Workdir: "/a/" + strings.Repeat("x", 256) + "/b"}, {Workdir: strings.Repeat("/x", 2000)}},
		"network":    {{Network: "host"}, {Network: "container:x"}, {Network: "None"}},
		"memory":     {{Memory: -1}},
		"cpus":       {{CPUs: puller.CPUs(math.NaN())}, {CPUs: -1}, {CPUs: puller.CPUs(math.Inf(1))}, {CPUs: 1025}, {CPUs: 1e-10}},
		"pids":       {{Pids: -1}, {Pids: 32769}},
	} {
		for i, r := range requests {
			t.Run(fmt.Sprint(field, i), func(t *testing.T) {
				withRunDaemon(t, nil, func(d *daemon) {
					if r.Image == "" {
						r.Image = good
					}
					_, err := d.Service.Run(r)
					if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), field+": ") || len(err.Error()) > 500 {
						d.Errorf("the error is %.600v", err)
					}
				})
			})
		}
	}
}

func testRunIdempotencyKey(t *testing.T) {
	withRunDaemon(t, enginetest.Print("up", "", 0), func(d *daemon) {
		r := puller.RunRequest{Image: good, Env: map[string]string{"A": "1", "B": "2"}, IdempotencyKey: "key"}
		j := d.run(r)
		for range 3 {
			if again := d.run(r); again.ID != j.ID {
				d.Errorf("it is %s, and then %s", j.ID, again.ID)
			}
			d.wantExit(j, 0)
			d.crash()
		}
		if n := d.engine.Counts().Created; n != 1 {
			d.Errorf("%d containers were created", n)
		}
		r.Env = map[string]string{"A": "1"}
		if _, err := d.Service.Run(r); puller.KindOf(err) != puller.ErrConflict {
			d.Error(err)
		}
		if _, err := d.Pull(puller.PullRequest{Image: good, IdempotencyKey: "key"}); puller.KindOf(err) != puller.ErrConflict {
			d.Error(err)
		}
	})
}

func testRunList(t *testing.T) {
	withRunDaemon(t, nil, func(d *daemon) {
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 0)
		d.end(d.pullAlways(good))
		for range 2 {
			page, _, err := d.Jobs(puller.Filter{Kind: puller.JobRun})
			if err != nil || len(page) != 1 || page[0].ID != j.ID {
				d.Errorf("the runs are %+v, %v", page, err)
			}
			d.restart()
		}
	})
}

// flood prints n bytes.
func flood(n int) enginetest.Program {
	return func(p *enginetest.Process) int {
		p.Stdout().Write(testprogram.RandomBytes(n))
		return 0
	}
}

func testRunOutputEndKept(t *testing.T) {
	withRunDaemon(t, flood(4<<20), func(d *daemon) {
		j := d.run(puller.RunRequest{})
		v := d.wantExit(j, 0) // though its reader reads nothing
		if !v.Result.Truncated {
			d.Errorf("the result is %+v", v.Result)
		}
		for range 2 {
			events := d.events(j)
			stdout, _ := printed(d, events)
			if len(stdout) > 1<<20 || len(stdout) < 256<<10 || !bytes.HasSuffix(testprogram.RandomBytes(4<<20), []byte(stdout)) {
				d.Errorf("of the output there are %d bytes", len(stdout))
			}
			if n := strings.Count(remarks(events), "not kept any more"); n != 1 {
				d.Errorf("that some is missing is told %d times", n)
			}
			d.restart()
		}
	})
}

func testRunOutputPruned(t *testing.T) {
	o := running
	o.KeepFor = 2 * time.Hour
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Program(d.serve(good).ID, enginetest.Print("up", "", 0))
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 0)
		found, _ := filepath.Glob(filepath.Join(os.TempDir(), "*", "*", j.ID+".*"))
		if len(found) != 1 {
			d.Fatalf("its output is in %q", found)
		}
		dir := filepath.Dir(found[0])
		d.restart() // it is not in memory any more
		<-time.After(4 * time.Hour)
		synctest.Wait()
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			d.Errorf("there are %v, %v", files, err)
		}
		if _, err := d.Job(j.ID); puller.KindOf(err) != puller.ErrNotFound {
			d.Error(err)
		}
	})
}
