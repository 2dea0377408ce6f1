package jobs_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/storetest"
)

// ends are the ways in which a daemon ends.
var ends = map[string]func(y *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart}

// counting prints a number a second to both streams, with half a character at
// the end of each, and what is no UTF-8.
func counting(n int, code int) enginetest.Program {
	return func(p *enginetest.Process) int {
		for i := range n {
			fmt.Fprintf(p.Stdout(), "\xbc%d\xc3", i)
			fmt.Fprintf(p.Stderr(), "\xff%d;", i)
			if !p.Wait(time.Second) {
				return 0
			}
		}
		return code
	}
}

func counted(n int) (stdout, stderr string) {
	for i := range n {
		stdout += fmt.Sprintf("\xbc%d\xc3", i)
		stderr += fmt.Sprintf("\xff%d;", i)
	}
	return stdout, stderr
}

// counts checks that a run printed what counting prints, for one who reads it
// all and for one who resumes after what a reader had been told before.
func (y *daemon) counts(j puller.Job, n int, seen []puller.Event) {
	y.Helper()
	wantOut, wantErr := counted(n)
	if stdout, stderr := y.output(j); stdout != wantOut || stderr != wantErr {
		y.Errorf("it printed %q and %q, not %q and %q", stdout, stderr, wantOut, wantErr)
	}
	last := uint64(0)
	if len(seen) > 0 {
		last = seen[len(seen)-1].Seq
	}
	frames, sub, err := y.Watch(j.ID, &last)
	if err != nil {
		y.Fatal(err)
	}
	r := &reader{sub: sub}
	r.take(frames, j.ID)
	y.mu.Lock()
	y.readers[j.ID] = r
	y.mu.Unlock()
	stdout, stderr := printed(y, append(seen, y.events(j)...))
	if stdout != wantOut || stderr != wantErr {
		y.Errorf("who resumed after %d was told %q and %q, not %q and %q", last, stdout, stderr, wantOut, wantErr)
	}
}

func TestRunRestartInEveryPhase(t *testing.T) {
	for name, c := range runPhases {
		for how, stop := range ends {
			for _, soon := range []bool{false, true} {
				t.Run(fmt.Sprint(name, ", ", how, ", at once: ", soon), func(t *testing.T) {
					withRunDaemon(t, counting(3, 7), func(y *daemon) {
						release := c.prepare(y)
						j := y.run(puller.RunRequest{})
						if c.phase == puller.PhaseRemoving {
							<-time.After(4 * time.Second)
						}
						y.is(j, c.state, c.phase)
						if !soon {
							<-time.After(500 * time.Millisecond)
						}
						seen := y.told(j)
						y.open = func(open func()) func() {
							return func() {
								y.open = open
								y.engine.OnContainer(nil)
								y.engine.OnInspect(nil)
								y.engine.Script(good, enginetest.Serve(enginetest.NewImage(good, 1)))
								open()
							}
						}(y.open)
						stop(y)
						defer release()
						v := y.exited(j, 7)
						if v.CreatedAt != j.CreatedAt || v.Result.ImageID == "" || v.Result.Digest == "" {
							y.Errorf("it is %+v", v)
						}
						y.counts(j, 3, seen)
						y.empty()
						want := 1
						if name == "creating" || name == "created" { // never started; what is starting is
							want = 2
						}
						most := want
						switch name {
						case "starting": // the engine may not have heard of it
							most = 2
						case "creating": // the name may be taken by then
							want = 1
						}
						if n := y.engine.Counts().Created; n < want || n > most {
							y.Errorf("%d containers were created", n)
						}
						is := y.kept(j)
						for _, stop := range ends {
							stop(y)
							if again := y.kept(j); again != is {
								y.Errorf("after restarts it is\n%s\nnot\n%s", again, is)
							}
							y.counts(j, 3, nil)
						}
					})
				})
			}
		}
	}
}

func TestRunManyCrashes(t *testing.T) {
	for name, tty := range map[string]bool{"": false, "with a terminal": true} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, counting(10, 3), func(y *daemon) {
				j := y.run(puller.RunRequest{TTY: tty})
				for i := range 8 {
					<-time.After(900 * time.Millisecond)
					if i%3 == 2 {
						y.restart()
					} else {
						y.crash()
					}
				}
				y.exited(j, 3)
				if tty {
					want := ""
					for i := range 10 {
						want += fmt.Sprintf("\xbc%d\xc3\xff%d;", i, i)
					}
					if stdout, _ := y.output(j); stdout != want {
						y.Errorf("it printed %q, not %q", stdout, want)
					}
				} else {
					y.counts(j, 10, nil)
				}
				if n := y.engine.Counts().Created; n != 1 {
					y.Errorf("%d containers were created", n)
				}
				y.empty()
			})
		})
	}
}

// down has something happen while the daemon is not there.
func (y *daemon) down(what func()) {
	y.open = func(open func()) func() {
		return func() { y.open = open; what(); open() }
	}(y.open)
}

func TestRunExitDuringCrash(t *testing.T) {
	for how, stop := range ends {
		t.Run(how, func(t *testing.T) {
			withRunDaemon(t, counting(5, 9), func(y *daemon) {
				j := y.run(puller.RunRequest{})
				<-time.After(1500 * time.Millisecond)
				seen := y.told(j)
				y.down(func() { <-time.After(time.Minute) })
				stop(y)
				y.exited(j, 9)
				y.counts(j, 5, seen)
				y.empty()
			})
		})
	}
}

func TestRunContainerVanished(t *testing.T) {
	for how, stop := range map[string]func(y *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart, "no restart": func(y *daemon) { y.open() }} {
		for _, age := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprint(how, " after ", age), func(t *testing.T) {
				withRunDaemon(t, enginetest.Hang("up"), func(y *daemon) {
					j := y.run(puller.RunRequest{})
					y.is(j, puller.StateActive, puller.PhaseRunning)
					<-time.After(age)
					if how == "no restart" {
						y.open = func() {}
					}
					y.down(func() {
						for _, c := range y.engine.Containers() {
							y.vanish(c.ID)
						}
					})
					stop(y)
					v := y.failed(j, puller.ErrInternal)
					if !strings.Contains(v.Error.Message, "gone") {
						y.Errorf("the error is %q", v.Error.Message)
					}
					if stdout, _ := y.output(j); stdout != "up" {
						y.Errorf("it printed %q", stdout)
					}
					if n := y.engine.Counts().Created; n != 1 {
						y.Errorf("%d containers were created", n)
					}
				})
			})
		}
	}
}

// vanish has another one remove a container.
func (y *daemon) vanish(id string) {
	y.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return y.engine.Dial(ctx) }, DisableKeepAlives: true}}
	r, _ := http.NewRequest("DELETE", "http://engine/containers/"+id+"?force=1", nil)
	resp, err := c.Do(r)
	if err != nil {
		y.Fatal(err)
	}
	resp.Body.Close()
}

func TestRunCrashWithCredentials(t *testing.T) {
	for name, there := range map[string]bool{"its image is there": true, "it is not": false} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Print("up", "", 4), func(y *daemon) {
				y.hold(good)
				j := y.run(puller.RunRequest{Credentials: credentials(y, "secret")})
				y.is(j, puller.StateActive, puller.PhasePulling)
				<-time.After(time.Second)
				y.down(func() {
					if there {
						y.engine.Tag(good, enginetest.NewImage(good, 1))
					}
				})
				y.crash()
				if there {
					y.exited(j, 4)
				} else {
					y.failed(j, puller.ErrDenied)
				}
				y.empty()
				y.pulls(1)
			})
		})
	}
}

func TestRunCrashActiveWithCredentials(t *testing.T) {
	withRunDaemon(t, counting(3, 5), func(y *daemon) {
		j := y.run(puller.RunRequest{Credentials: credentials(y, "secret")})
		<-time.After(1500 * time.Millisecond)
		y.down(func() { y.engine.Remove(good) })
		y.crash()
		y.exited(j, 5)
		y.counts(j, 3, nil)
	})
}

func TestRunEngineAway(t *testing.T) {
	withRunDaemon(t, counting(5, 6), func(y *daemon) {
		j := y.run(puller.RunRequest{})
		<-time.After(1500 * time.Millisecond)
		for range 2 {
			y.engine.Kill()
			<-time.After(time.Second)
			y.is(j, puller.StateActive, puller.PhaseRunning)
			y.engine.Revive()
		}
		v := y.exited(j, 6)
		if v.Result.Interrupted {
			y.Errorf("the result is %+v", v.Result)
		}
		y.counts(j, 5, nil)
		if n := strings.Count(remarks(y.events(j)), "the engine went away"); n > 2 {
			y.Errorf("that it went away was told %d times", n)
		}
		y.empty()
	})
}

func TestRunEngineAwayBeforeStart(t *testing.T) {
	for _, at := range []string{"create", "attach", "start"} {
		for name, after := range map[string]bool{"": false, ", though it was done": true} {
			t.Run(at+name, func(t *testing.T) {
				withRunDaemon(t, counting(12, 6), func(y *daemon) {
					away := false
					y.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
						if call == at && !away {
							away = true
							if after { // the call takes effect, but its answer is lost
								time.AfterFunc(0, y.engine.Kill)
							} else {
								y.engine.Kill()
							}
							time.AfterFunc(5*time.Second, y.engine.Revive)
							if !after {
								return http.StatusServiceUnavailable, "shutting down"
							}
						}
						return 0, ""
					})
					j := y.run(puller.RunRequest{})
					y.exited(j, 6)
					y.counts(j, 12, nil)
					y.empty()
				})
			})
		}
	}
}

func TestRunEngineNeverBack(t *testing.T) {
	o := running
	o.FirstByteTimeout = 2 * time.Minute
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Program(y.serve(good).ID, enginetest.Hang("up"))
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseRunning)
		y.engine.Kill()
		began := time.Now()
		v := y.failed(j, puller.ErrEngineUnavailable)
		if took := time.Since(began); took < 2*time.Minute || took > 4*time.Minute {
			y.Errorf("that took %s: %v", took, v.Error)
		}
		if n := len(y.engine.Containers()); n != 1 {
			y.Fatalf("there are %d containers", n)
		}
		y.engine.Revive()
		y.restart()
		y.empty()
		if stdout, _ := y.output(j); stdout != "up" {
			y.Errorf("it printed %q", stdout)
		}
	})
}

func TestRunClose(t *testing.T) {
	withRunDaemon(t, counting(10, 0), func(y *daemon) {
		j := y.run(puller.RunRequest{})
		<-time.After(1500 * time.Millisecond)
		began := time.Now()
		if err := y.Close(context.Background()); err != nil || time.Since(began) > time.Second {
			y.Errorf("Close took %s: %v", time.Since(began), err)
		}
		if c := y.engine.Containers(); len(c) != 1 || c[0].Status != "running" {
			y.Errorf("there are %+v", c)
		}
		if log := y.log.String(); strings.Contains(log, "level=warn") || strings.Contains(log, "level=error") {
			y.Errorf("it logged %s", y.log)
		}
		y.open()
		y.exited(j, 0)
		y.counts(j, 10, nil)
	})
}

// A crash came between the exit and the removal, or the end.
func TestRunExitSaved(t *testing.T) {
	withRunDaemon(t, enginetest.Print("up", "", 5), func(y *daemon) {
		var kept *storetest.Store
		y.store.OnSave(func(records []puller.Record) {
			if len(records) == 1 && records[0].Job.State == puller.StateSucceeded && kept == nil {
				kept = y.store.Reopen()
			}
		})
		j := y.run(puller.RunRequest{})
		y.exited(j, 5)
		y.close()
		y.store = kept
		y.open()
		y.exited(j, 5)
		if n := y.engine.Counts().Created; n != 1 {
			y.Errorf("%d containers were created", n)
		}
		if stdout, _ := y.output(j); stdout != "up" {
			y.Errorf("it printed %q", stdout)
		}
	})
}

func TestRunCancelWhileAwaited(t *testing.T) {
	withRunDaemon(t, enginetest.Hang("up"), func(y *daemon) {
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseRunning)
		<-time.After(time.Second)
		y.down(y.engine.Kill)
		y.crash()
		<-time.After(time.Second)
		time.AfterFunc(5*time.Second, y.engine.Revive)
		if _, err := y.Cancel(j.ID); err != nil {
			y.Error(err)
		}
		y.failed(j, puller.ErrCanceled)
		y.empty()
	})
}

// A crash comes between the engine's answer to who cancels a run, and its end.
func TestRunCancelThenCrash(t *testing.T) {
	for name, down := range map[string]func(y *daemon){
		"it runs on":         func(*daemon) {},
		"it ends meanwhile":  func(*daemon) { <-time.After(time.Minute) },
		"it is gone by then": func(y *daemon) { y.vanish(y.engine.Containers()[0].ID) },
	} {
		for how, stop := range ends {
			t.Run(name+", "+how, func(t *testing.T) {
				withRunDaemon(t, counting(20, 0), func(y *daemon) {
					j := y.run(puller.RunRequest{})
					y.is(j, puller.StateActive, puller.PhaseRunning)
					release := y.stuck("stop")
					go y.Cancel(j.ID)
					synctest.Wait()
					y.down(func() { y.engine.OnContainer(nil); down(y) })
					began := time.Now()
					stop(y)
					y.failed(j, puller.ErrCanceled)
					if took := time.Since(began); took > time.Minute+15*time.Second {
						y.Errorf("it took %s", took)
					}
					release()
					y.empty()
				})
			})
		}
	}
}

// cancelAfterCrash cancels a run that has a daemon started anew wait for the
// engine's answer to a call.
func (y *daemon) cancelAfterCrash(j puller.Job, at string) {
	y.Helper()
	var release func()
	y.down(func() { release = y.stuck(at) })
	y.crash()
	synctest.Wait()
	canceled := make(chan error)
	go func() { _, err := y.Cancel(j.ID); canceled <- err }()
	synctest.Wait()
	release()
	if err := <-canceled; err != nil {
		y.Error(err)
	}
	y.failed(j, puller.ErrCanceled)
	y.empty()
}

// Nothing has asked for the job's context by then.
func TestRunCancelWhileRemoved(t *testing.T) {
	withRunDaemon(t, nil, func(y *daemon) {
		held := y.stuck("remove")
		defer held()
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseRemoving)
		<-time.After(time.Second)
		y.cancelAfterCrash(j, "list")
	})
}

func TestRunSlowReader(t *testing.T) {
	withRunDaemon(t, func(p *enginetest.Process) int {
		for range 1000 {
			io.WriteString(p.Stdout(), strings.Repeat("x", 1000))
			p.Wait(time.Millisecond)
		}
		return 0
	}, func(y *daemon) {
		j := y.run(puller.RunRequest{})
		began := time.Now()
		v := y.exited(j, 0)
		if took := time.Since(began); took > 2*time.Second {
			y.Errorf("it took %s", took)
		}
		stdout, _ := printed(y, y.events(j))
		if len(stdout) == 1_000_000 == v.Result.Truncated {
			y.Errorf("of its output %d bytes are there, and truncated is %t", len(stdout), v.Result.Truncated)
		}
		synctest.Wait()
	})
}
