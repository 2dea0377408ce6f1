package jobs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestRunSweep(t *testing.T) {
	t.Parallel()
	t.Run("remove fails", testRunRemoveFails)
	t.Run("engine back late", testRunSweepEngineBackLate)
	t.Run("concurrency after restart", testRunConcurrencyAfterRestart)
	t.Run("crash empty entrypoint", testRunCrashEmptyEntrypoint)
	t.Run("image pruned with credentials", testRunImagePrunedWithCredentials)
	t.Run("cancel begun anew", testRunCancelBegunAnew)
	t.Run("store fails", testRunStoreFails)
	t.Run("random faults", testRunRandomFaults)
	t.Run("late container", testRunSweepLateContainer)
	t.Run("output not writable", testRunOutputNotWritable)
	t.Run("open files", testRunOpenFiles)
	t.Run("close while removed", testRunCloseWhileRemoved)
}

func testRunRemoveFails(t *testing.T) {
	withRunDaemon(t, enginetest.Print("up", "", 3), func(d *daemon) {
		d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "remove" {
				return http.StatusInternalServerError, "device or resource busy"
			}
			return 0, ""
		})
		var jobs []puller.Job
		for range 3 {
			jobs = append(jobs, d.run(puller.RunRequest{}))
		}
		for _, j := range jobs {
			d.wantExit(j, 3)
			if said := remarks(d.events(j)); !strings.Contains(said, "could not be removed") || !strings.Contains(said, "busy") {
				d.Errorf("it was told %q", said)
			}
		}
		if n := len(d.engine.Containers()); n != 3 {
			d.Errorf("there are %d containers", n)
		}
		<-time.After(time.Hour)
		d.engine.OnContainer(nil)
		<-time.After(2 * time.Minute)
		d.wantNoContainers()
	})
}

func testRunSweepEngineBackLate(t *testing.T) {
	o := running
	o.FirstByteTimeout = time.Minute
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Program(d.serve(good).ID, enginetest.Hang("up"))
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		d.engine.Kill()
		d.failed(j, puller.ErrEngineUnavailable)
		<-time.After(time.Hour)
		d.engine.Revive()
		<-time.After(2 * time.Minute)
		d.wantNoContainers()
	})
}

func testRunConcurrencyAfterRestart(t *testing.T) {
	o := running
	o.Runs = 1
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Program(d.serve(good).ID, enginetest.Hang(""))
		first := d.run(puller.RunRequest{})
		d.inState(first, puller.StateActive, puller.PhaseRunning)
		second := d.run(puller.RunRequest{})
		<-time.After(time.Second)
		d.crash()
		third := d.run(puller.RunRequest{})
		d.inState(first, puller.StateActive, puller.PhaseRunning)
		if n := len(d.engine.Containers()); n != 1 {
			d.Errorf("there are %d containers", n)
		}
		for _, j := range []puller.Job{first, second, third} {
			if _, err := d.Cancel(j.ID); err != nil {
				d.Error(err)
			}
		}
		d.wantNoContainers()
	})
}

func testRunCrashEmptyEntrypoint(t *testing.T) {
	for name, entrypoint := range map[string][]string{"empty": {}, "the image's": nil} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
				release := d.hold(good)
				j := d.run(puller.RunRequest{Entrypoint: entrypoint})
				d.inState(j, puller.StateActive, puller.PhasePulling)
				defer release()
				d.down(func() { d.serve(good) })
				d.crash()
				d.inState(j, puller.StateActive, puller.PhaseRunning)
				if got := d.engine.Containers()[0].Requested.Entrypoint; (got == nil) != (entrypoint == nil) {
					d.Errorf("the engine was asked for %#v", got)
				}
			})
		})
	}
}

func testRunImagePrunedWithCredentials(t *testing.T) {
	withRunDaemon(t, nil, func(d *daemon) {
		once := true
		d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "create" && once {
				once = false
				d.engine.Remove(good)
			}
			return 0, ""
		})
		j := d.run(puller.RunRequest{Credentials: credentials(d, "secret")})
		d.wantExit(j, 0)
		d.wantPulls(2)
		if d.engine.LastAuth() == "" {
			d.Error("the second pull came without credentials")
		}
	})
}

// A container was created, and the daemon crashed; the job is cancelled while
// it looks for it, and removes it.
func testRunCancelBegunAnew(t *testing.T) {
	for _, at := range []string{"list", "remove"} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
				held := d.stuck("attach")
				defer held()
				j := d.run(puller.RunRequest{})
				d.inState(j, puller.StateActive, puller.PhaseCreating)
				<-time.After(time.Second)
				d.cancelAfterCrash(j, at)
			})
		})
	}
}

func testRunStoreFails(t *testing.T) {
	withRunDaemon(t, counting(3, 2), func(d *daemon) {
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		d.store.Fail(errors.New("no space left on device"))
		d.wantExit(j, 2)
		d.wantCounted(j, 3, nil)
		d.wantNoContainers()
		d.store.Fail(nil)
		<-time.After(2 * time.Second)
		d.crash()
		d.wantExit(j, 2)
		d.wantCounted(j, 3, nil)
	})
}

// Many runs, a daemon that crashes at any time, and an engine that goes away:
// each program runs once, and all that it prints is told once.
func testRunRandomFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			started := make(map[string]int)
			withRunDaemon(t, nil, func(d *daemon) {
				d.engine.Program(enginetest.NewImage(good, 1).ID, func(p *enginetest.Process) int {
					mu.Lock()
					started[p.Requested.Labels["towline.job"]]++
					mu.Unlock()
					return counting(5, 1)(p)
				})
				var jobs []puller.Job
				for range 6 {
					jobs = append(jobs, d.run(puller.RunRequest{}))
				}
				for range 15 {
					<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
					switch rng.IntN(4) {
					case 0:
						d.restart()
					case 1:
						d.engine.Kill()
						<-time.After(time.Duration(rng.IntN(1000)) * time.Millisecond)
						d.engine.Revive()
					default:
						d.crash()
					}
				}
				for _, j := range jobs {
					// An exit that no engine can have seen is no success.
					if v := d.end(j); v.State != puller.StateFailed || !v.Result.Interrupted || v.Error.Kind != puller.ErrEngineUnavailable {
						d.wantExit(j, 1)
					}
					d.wantCounted(j, 5, nil)
					mu.Lock()
					n := started[j.ID]
					mu.Unlock()
					if n != 1 {
						d.Errorf("its program ran %d times", n)
					}
				}
				d.wantNoContainers()
			})
		})
	}
}

// An engine that creates a container for long does so though nobody waits.
func testRunSweepLateContainer(t *testing.T) {
	withRunDaemon(t, nil, func(d *daemon) {
		d.stuck("create")
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseCreating)
		began := time.Now()
		d.engine.OnContainer(nil)
		if _, err := d.Cancel(j.ID); err != nil || time.Since(began) > 11*time.Second {
			d.Errorf("that took %s: %v", time.Since(began), err)
		}
		d.failed(j, puller.ErrCanceled)
		<-time.After(3 * time.Minute)
		d.wantNoContainers()
	})
}

func testRunOutputNotWritable(t *testing.T) {
	withRunDaemon(t, counting(3, 2), func(d *daemon) {
		j := d.run(puller.RunRequest{Timeout: puller.Duration(time.Hour)})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		found, _ := filepath.Glob(filepath.Join(os.TempDir(), "*", "*", j.ID+".*"))
		if len(found) != 1 {
			d.Fatalf("its output is in %q", found)
		}
		d.wantExit(j, 2)
		dir := filepath.Dir(found[0])
		if err := os.RemoveAll(dir); err != nil {
			d.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			d.Fatal(err)
		}
		j = d.run(puller.RunRequest{})
		if v := d.wantExit(j, 2); !v.Result.Truncated {
			d.Errorf("the result is %+v", v.Result)
		}
		events := d.events(j)
		if stdout, _ := printed(d, events); stdout != "" || !strings.Contains(remarks(events), "can't be kept") {
			d.Errorf("it was told %q and %q", stdout, remarks(events))
		}
		if err := os.Remove(dir); err != nil {
			d.Fatal(err)
		}
	})
}

func testRunOpenFiles(t *testing.T) {
	open := func() int {
		files, _ := os.ReadDir("/proc/self/fd")
		n := 0
		for _, f := range files {
			if name, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.Contains(name, "testRunOpenFiles") {
				n++
			}
		}
		return n
	}
	for name, c := range runPhases {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, counting(2, 0), func(d *daemon) {
				release := c.prepare(d)
				j := d.run(puller.RunRequest{})
				<-time.After(5 * time.Second)
				d.inState(j, c.state, c.phase)
				d.down(func() {
					d.engine.OnContainer(nil)
					d.engine.OnInspect(nil)
					d.serve(good)
				})
				d.crash()
				defer release()
				d.wantExit(j, 0)
				if n := open(); n != 0 {
					d.Errorf("%d files are open", n)
				}
			})
		})
	}
}

func testRunCloseWhileRemoved(t *testing.T) {
	for _, at := range []string{"create", "attach", "start", "wait", "remove"} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, enginetest.Print("up", "", 4), func(d *daemon) {
				d.stuck(at)
				j := d.run(puller.RunRequest{})
				<-time.After(time.Second)
				began := time.Now()
				d.down(func() {
					d.engine.OnContainer(nil)
					if took := time.Since(began); took > time.Second {
						d.Errorf("Close took %s", took)
					}
					if log := d.log.String(); strings.Contains(log, "level=warn") || strings.Contains(log, "level=error") {
						d.Errorf("it logged %s", log)
					}
				})
				d.restart()
				d.wantExit(j, 4)
				if stdout, _ := d.output(j); stdout != "up" {
					d.Errorf("it printed %q", stdout)
				}
				d.wantNoContainers()
			})
		})
	}
}
