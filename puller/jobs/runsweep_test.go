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

func TestRunRemoveFails(t *testing.T) {
	withRunDaemon(t, enginetest.Print("up", "", 3), func(y *daemon) {
		y.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "remove" {
				return http.StatusInternalServerError, "device or resource busy"
			}
			return 0, ""
		})
		var jobs []puller.Job
		for range 3 {
			jobs = append(jobs, y.run(puller.RunRequest{}))
		}
		for _, j := range jobs {
			y.exited(j, 3)
			if said := remarks(y.events(j)); !strings.Contains(said, "could not be removed") || !strings.Contains(said, "busy") {
				y.Errorf("it was told %q", said)
			}
		}
		if n := len(y.engine.Containers()); n != 3 {
			y.Errorf("there are %d containers", n)
		}
		<-time.After(time.Hour)
		y.engine.OnContainer(nil)
		<-time.After(2 * time.Minute)
		y.empty()
	})
}

func TestRunSweepEngineBackLate(t *testing.T) {
	o := running
	o.FirstByteTimeout = time.Minute
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Program(y.serve(good).ID, enginetest.Hang("up"))
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseRunning)
		y.engine.Kill()
		y.failed(j, puller.ErrEngineUnavailable)
		<-time.After(time.Hour)
		y.engine.Revive()
		<-time.After(2 * time.Minute)
		y.empty()
	})
}

func TestRunConcurrencyAfterRestart(t *testing.T) {
	o := running
	o.Runs = 1
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Program(y.serve(good).ID, enginetest.Hang(""))
		first := y.run(puller.RunRequest{})
		y.is(first, puller.StateActive, puller.PhaseRunning)
		second := y.run(puller.RunRequest{})
		<-time.After(time.Second)
		y.crash()
		third := y.run(puller.RunRequest{})
		y.is(first, puller.StateActive, puller.PhaseRunning)
		if n := len(y.engine.Containers()); n != 1 {
			y.Errorf("there are %d containers", n)
		}
		for _, j := range []puller.Job{first, second, third} {
			if _, err := y.Cancel(j.ID); err != nil {
				y.Error(err)
			}
		}
		y.empty()
	})
}

func TestRunCrashEmptyEntrypoint(t *testing.T) {
	for name, entrypoint := range map[string][]string{"empty": {}, "the image's": nil} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Hang(""), func(y *daemon) {
				release := y.hold(good)
				j := y.run(puller.RunRequest{Entrypoint: entrypoint})
				y.is(j, puller.StateActive, puller.PhasePulling)
				defer release()
				y.down(func() { y.serve(good) })
				y.crash()
				y.is(j, puller.StateActive, puller.PhaseRunning)
				if got := y.engine.Containers()[0].Requested.Entrypoint; (got == nil) != (entrypoint == nil) {
					y.Errorf("the engine was asked for %#v", got)
				}
			})
		})
	}
}

func TestRunImagePrunedWithCredentials(t *testing.T) {
	withRunDaemon(t, nil, func(y *daemon) {
		once := true
		y.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "create" && once {
				once = false
				y.engine.Remove(good)
			}
			return 0, ""
		})
		j := y.run(puller.RunRequest{Credentials: credentials(y, "secret")})
		y.exited(j, 0)
		y.pulls(2)
		if y.engine.LastAuth() == "" {
			y.Error("the second pull came without credentials")
		}
	})
}

// A container was created, and the daemon crashed; the job is cancelled while
// it looks for it, and removes it.
func TestRunCancelBegunAnew(t *testing.T) {
	for _, at := range []string{"list", "remove"} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, enginetest.Hang(""), func(y *daemon) {
				held := y.stuck("attach")
				defer held()
				j := y.run(puller.RunRequest{})
				y.is(j, puller.StateActive, puller.PhaseCreating)
				<-time.After(time.Second)
				y.cancelAfterCrash(j, at)
			})
		})
	}
}

func TestRunStoreFails(t *testing.T) {
	withRunDaemon(t, counting(3, 2), func(y *daemon) {
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseRunning)
		y.store.Fail(errors.New("no space left on device"))
		y.exited(j, 2)
		y.counts(j, 3, nil)
		y.empty()
		y.store.Fail(nil)
		<-time.After(2 * time.Second)
		y.crash()
		y.exited(j, 2)
		y.counts(j, 3, nil)
	})
}

// Many runs, a daemon that crashes at any time, and an engine that goes away:
// each program runs once, and all that it prints is told once.
func TestRunRandomFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			started := make(map[string]int)
			withRunDaemon(t, nil, func(y *daemon) {
				y.engine.Program(enginetest.NewImage(good, 1).ID, func(p *enginetest.Process) int {
					mu.Lock()
					started[p.Requested.Labels["towline.job"]]++
					mu.Unlock()
					return counting(5, 1)(p)
				})
				var jobs []puller.Job
				for range 10 {
					jobs = append(jobs, y.run(puller.RunRequest{}))
				}
				for range 15 {
					<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
					switch rng.IntN(4) {
					case 0:
						y.restart()
					case 1:
						y.engine.Kill()
						<-time.After(time.Duration(rng.IntN(1000)) * time.Millisecond)
						y.engine.Revive()
					default:
						y.crash()
					}
				}
				for _, j := range jobs {
					// An exit that no engine can have seen is no success.
					if v := y.end(j); v.State != puller.StateFailed || !v.Result.Interrupted || v.Error.Kind != puller.ErrEngineUnavailable {
						y.exited(j, 1)
					}
					y.counts(j, 5, nil)
					mu.Lock()
					n := started[j.ID]
					mu.Unlock()
					if n != 1 {
						y.Errorf("its program ran %d times", n)
					}
				}
				y.empty()
			})
		})
	}
}

// An engine that creates a container for long does so though nobody waits.
func TestRunSweepLateContainer(t *testing.T) {
	withRunDaemon(t, nil, func(y *daemon) {
		y.stuck("create")
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseCreating)
		began := time.Now()
		y.engine.OnContainer(nil)
		if _, err := y.Cancel(j.ID); err != nil || time.Since(began) > 11*time.Second {
			y.Errorf("that took %s: %v", time.Since(began), err)
		}
		y.failed(j, puller.ErrCanceled)
		<-time.After(3 * time.Minute)
		y.empty()
	})
}

func TestRunOutputNotWritable(t *testing.T) {
	withRunDaemon(t, counting(3, 2), func(y *daemon) {
		j := y.run(puller.RunRequest{Timeout: puller.Duration(time.Hour)})
		y.is(j, puller.StateActive, puller.PhaseRunning)
		found, _ := filepath.Glob(filepath.Join(os.TempDir(), "*", "*", j.ID+".*"))
		if len(found) != 1 {
			y.Fatalf("its output is in %q", found)
		}
		y.exited(j, 2)
		dir := filepath.Dir(found[0])
		if err := os.RemoveAll(dir); err != nil {
			y.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			y.Fatal(err)
		}
		j = y.run(puller.RunRequest{})
		if v := y.exited(j, 2); !v.Result.Truncated {
			y.Errorf("the result is %+v", v.Result)
		}
		events := y.events(j)
		if stdout, _ := printed(y, events); stdout != "" || !strings.Contains(remarks(events), "can't be kept") {
			y.Errorf("it was told %q and %q", stdout, remarks(events))
		}
		if err := os.Remove(dir); err != nil {
			y.Fatal(err)
		}
	})
}

func TestRunOpenFiles(t *testing.T) {
	open := func() int {
		files, _ := os.ReadDir("/proc/self/fd")
		n := 0
		for _, f := range files {
			if name, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.Contains(name, "TestRunOpenFiles") {
				n++
			}
		}
		return n
	}
	for name, c := range runPhases {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, counting(2, 0), func(y *daemon) {
				release := c.prepare(y)
				j := y.run(puller.RunRequest{})
				<-time.After(5 * time.Second)
				y.is(j, c.state, c.phase)
				y.down(func() {
					y.engine.OnContainer(nil)
					y.engine.OnInspect(nil)
					y.serve(good)
				})
				y.crash()
				defer release()
				y.exited(j, 0)
				if n := open(); n != 0 {
					y.Errorf("%d files are open", n)
				}
			})
		})
	}
}

func TestRunCloseWhileRemoved(t *testing.T) {
	for _, at := range []string{"create", "attach", "start", "wait", "remove"} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, enginetest.Print("up", "", 4), func(y *daemon) {
				y.stuck(at)
				j := y.run(puller.RunRequest{})
				<-time.After(time.Second)
				began := time.Now()
				y.down(func() {
					y.engine.OnContainer(nil)
					if took := time.Since(began); took > time.Second {
						y.Errorf("Close took %s", took)
					}
					if log := y.log.String(); strings.Contains(log, "level=warn") || strings.Contains(log, "level=error") {
						y.Errorf("it logged %s", log)
					}
				})
				y.restart()
				y.exited(j, 4)
				if stdout, _ := y.output(j); stdout != "up" {
					y.Errorf("it printed %q", stdout)
				}
				y.empty()
			})
		})
	}
}
