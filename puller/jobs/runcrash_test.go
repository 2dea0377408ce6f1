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
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// ends are the ways in which a daemon ends.
var ends = map[string]func(d *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart}

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

// wantCounted checks that a run printed what counting prints, for a reader of
// all of it and for a reader that resumes.
func (d *daemon) wantCounted(j puller.Job, n int, seen []puller.Event) {
	d.Helper()
	wantOut, wantErr := counted(n)
	if stdout, stderr := d.output(j); stdout != wantOut || stderr != wantErr {
		d.Errorf("it printed %q and %q, not %q and %q", stdout, stderr, wantOut, wantErr)
	}
	last := uint64(0)
	if len(seen) > 0 {
		last = seen[len(seen)-1].Seq
	}
	frames, sub, err := d.Watch(j.ID, &last)
	if err != nil {
		d.Fatal(err)
	}
	r := &reader{sub: sub}
	r.take(frames, j.ID)
	d.mu.Lock()
	d.readers[j.ID] = r
	d.mu.Unlock()
	stdout, stderr := printed(d, append(seen, d.events(j)...))
	if stdout != wantOut || stderr != wantErr {
		d.Errorf("who resumed after %d was told %q and %q, not %q and %q", last, stdout, stderr, wantOut, wantErr)
	}
}

func TestRunCrash(t *testing.T) {
	t.Parallel()
	t.Run("restart in every phase", testRunRestartInEveryPhase)
	t.Run("many crashes", testRunManyCrashes)
	t.Run("exit during crash", testRunExitDuringCrash)
	t.Run("container vanished", testRunContainerVanished)
	t.Run("with credentials", testRunCrashWithCredentials)
	t.Run("active with credentials", testRunCrashActiveWithCredentials)
	t.Run("engine away", testRunEngineAway)
	t.Run("engine away before start", testRunEngineAwayBeforeStart)
	t.Run("engine never back", testRunEngineNeverBack)
	t.Run("close", testRunClose)
	t.Run("exit saved", testRunExitSaved)
	t.Run("cancel while awaited", testRunCancelWhileAwaited)
	t.Run("cancel then crash", testRunCancelThenCrash)
	t.Run("cancel while removed", testRunCancelWhileRemoved)
	t.Run("slow reader", testRunSlowReader)
}

func testRunRestartInEveryPhase(t *testing.T) {
	for name, c := range runPhases {
		for how, stop := range ends {
			for _, soon := range []bool{false, true} {
				t.Run(fmt.Sprint(name, ", ", how, ", at once: ", soon), func(t *testing.T) {
					withRunDaemon(t, counting(3, 7), func(d *daemon) {
						release := c.prepare(d)
						j := d.run(puller.RunRequest{})
						if c.phase == puller.PhaseRemoving {
							<-time.After(4 * time.Second)
						}
						d.inState(j, c.state, c.phase)
						if !soon {
							<-time.After(500 * time.Millisecond)
						}
						seen := d.eventsSoFar(j)
						d.open = func(open func()) func() {
							return func() {
								d.open = open
								d.engine.OnContainer(nil)
								d.engine.OnInspect(nil)
								d.engine.Script(good, enginetest.Serve(enginetest.NewImage(good, 1)))
								open()
							}
						}(d.open)
						stop(d)
						defer release()
						v := d.wantExit(j, 7)
						if v.CreatedAt != j.CreatedAt || v.Result.ImageID == "" || v.Result.Digest == "" {
							d.Errorf("it is %+v", v)
						}
						d.wantCounted(j, 3, seen)
						d.wantNoContainers()
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
						if n := d.engine.Counts().Created; n < want || n > most {
							d.Errorf("%d containers were created", n)
						}
						is := d.record(j)
						for _, stop := range ends {
							stop(d)
							if again := d.record(j); again != is {
								d.Errorf("after restarts it is\n%s\nnot\n%s", again, is)
							}
							d.wantCounted(j, 3, nil)
						}
					})
				})
			}
		}
	}
}

func testRunManyCrashes(t *testing.T) {
	for name, tty := range map[string]bool{"": false, "with a terminal": true} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, counting(10, 3), func(d *daemon) {
				j := d.run(puller.RunRequest{TTY: tty})
				for i := range 8 {
					<-time.After(900 * time.Millisecond)
					if i%3 == 2 {
						d.restart()
					} else {
						d.crash()
					}
				}
				d.wantExit(j, 3)
				if tty {
					want := ""
					for i := range 10 {
						want += fmt.Sprintf("\xbc%d\xc3\xff%d;", i, i)
					}
					if stdout, _ := d.output(j); stdout != want {
						d.Errorf("it printed %q, not %q", stdout, want)
					}
				} else {
					d.wantCounted(j, 10, nil)
				}
				if n := d.engine.Counts().Created; n != 1 {
					d.Errorf("%d containers were created", n)
				}
				d.wantNoContainers()
			})
		})
	}
}

// down has something happen while the daemon is not there.
func (d *daemon) down(what func()) {
	d.open = func(open func()) func() {
		return func() { d.open = open; what(); open() }
	}(d.open)
}

func testRunExitDuringCrash(t *testing.T) {
	for how, stop := range ends {
		t.Run(how, func(t *testing.T) {
			withRunDaemon(t, counting(5, 9), func(d *daemon) {
				j := d.run(puller.RunRequest{})
				<-time.After(1500 * time.Millisecond)
				seen := d.eventsSoFar(j)
				d.down(func() { <-time.After(time.Minute) })
				stop(d)
				d.wantExit(j, 9)
				d.wantCounted(j, 5, seen)
				d.wantNoContainers()
			})
		})
	}
}

func testRunContainerVanished(t *testing.T) {
	for how, stop := range map[string]func(d *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart, "no restart": func(d *daemon) { d.open() }} {
		for _, age := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprint(how, " after ", age), func(t *testing.T) {
				withRunDaemon(t, enginetest.Hang("up"), func(d *daemon) {
					j := d.run(puller.RunRequest{})
					d.inState(j, puller.StateActive, puller.PhaseRunning)
					<-time.After(age)
					if how == "no restart" {
						d.open = func() {}
					}
					d.down(func() {
						for _, c := range d.engine.Containers() {
							d.vanish(c.ID)
						}
					})
					stop(d)
					v := d.failed(j, puller.ErrInternal)
					if !strings.Contains(v.Error.Message, "gone") {
						d.Errorf("the error is %q", v.Error.Message)
					}
					if stdout, _ := d.output(j); stdout != "up" {
						d.Errorf("it printed %q", stdout)
					}
					if n := d.engine.Counts().Created; n != 1 {
						d.Errorf("%d containers were created", n)
					}
				})
			})
		}
	}
}

// vanish has another one remove a container.
func (d *daemon) vanish(id string) {
	d.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.engine.Dial(ctx) }, DisableKeepAlives: true}}
	r, _ := http.NewRequest("DELETE", "http://engine/containers/"+id+"?force=1", nil)
	resp, err := c.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	resp.Body.Close()
}

func testRunCrashWithCredentials(t *testing.T) {
	for name, there := range map[string]bool{"its image is there": true, "it is not": false} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Print("up", "", 4), func(d *daemon) {
				d.hold(good)
				j := d.run(puller.RunRequest{Credentials: credentials(d, "secret")})
				d.inState(j, puller.StateActive, puller.PhasePulling)
				<-time.After(time.Second)
				d.down(func() {
					if there {
						d.engine.Tag(good, enginetest.NewImage(good, 1))
					}
				})
				d.crash()
				if there {
					d.wantExit(j, 4)
				} else {
					d.failed(j, puller.ErrDenied)
				}
				d.wantNoContainers()
				d.wantPulls(1)
			})
		})
	}
}

func testRunCrashActiveWithCredentials(t *testing.T) {
	withRunDaemon(t, counting(3, 5), func(d *daemon) {
		j := d.run(puller.RunRequest{Credentials: credentials(d, "secret")})
		<-time.After(1500 * time.Millisecond)
		d.down(func() { d.engine.Remove(good) })
		d.crash()
		d.wantExit(j, 5)
		d.wantCounted(j, 3, nil)
	})
}

func testRunEngineAway(t *testing.T) {
	withRunDaemon(t, counting(5, 6), func(d *daemon) {
		j := d.run(puller.RunRequest{})
		<-time.After(1500 * time.Millisecond)
		for range 2 {
			d.engine.Kill()
			<-time.After(time.Second)
			d.inState(j, puller.StateActive, puller.PhaseRunning)
			d.engine.Revive()
		}
		v := d.wantExit(j, 6)
		if v.Result.Interrupted {
			d.Errorf("the result is %+v", v.Result)
		}
		d.wantCounted(j, 5, nil)
		if n := strings.Count(remarks(d.events(j)), "the engine went away"); n > 2 {
			d.Errorf("that it went away was told %d times", n)
		}
		d.wantNoContainers()
	})
}

func testRunEngineAwayBeforeStart(t *testing.T) {
	for _, at := range []string{"create", "attach", "start"} {
		for name, after := range map[string]bool{"": false, ", though it was done": true} {
			t.Run(at+name, func(t *testing.T) {
				withRunDaemon(t, counting(12, 6), func(d *daemon) {
					away := false
					d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
						if call == at && !away {
							away = true
							if after { // the call takes effect, but its answer is lost
								time.AfterFunc(0, d.engine.Kill)
							} else {
								d.engine.Kill()
							}
							time.AfterFunc(5*time.Second, d.engine.Revive)
							if !after {
								return http.StatusServiceUnavailable, "shutting down"
							}
						}
						return 0, ""
					})
					j := d.run(puller.RunRequest{})
					d.wantExit(j, 6)
					d.wantCounted(j, 12, nil)
					d.wantNoContainers()
				})
			})
		}
	}
}

func testRunEngineNeverBack(t *testing.T) {
	o := running
	o.FirstByteTimeout = 2 * time.Minute
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Program(d.serve(good).ID, enginetest.Hang("up"))
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		d.engine.Kill()
		began := time.Now()
		v := d.failed(j, puller.ErrEngineUnavailable)
		if took := time.Since(began); took < 2*time.Minute || took > 4*time.Minute {
			d.Errorf("that took %s: %v", took, v.Error)
		}
		if n := len(d.engine.Containers()); n != 1 {
			d.Fatalf("there are %d containers", n)
		}
		d.engine.Revive()
		d.restart()
		d.wantNoContainers()
		if stdout, _ := d.output(j); stdout != "up" {
			d.Errorf("it printed %q", stdout)
		}
	})
}

func testRunClose(t *testing.T) {
	withRunDaemon(t, counting(10, 0), func(d *daemon) {
		j := d.run(puller.RunRequest{})
		<-time.After(1500 * time.Millisecond)
		began := time.Now()
		if err := d.Close(context.Background()); err != nil || time.Since(began) > time.Second {
			d.Errorf("Close took %s: %v", time.Since(began), err)
		}
		if c := d.engine.Containers(); len(c) != 1 || c[0].Status != "running" {
			d.Errorf("there are %+v", c)
		}
		if log := d.log.String(); strings.Contains(log, "level=warn") || strings.Contains(log, "level=error") {
			d.Errorf("it logged %s", d.log)
		}
		d.open()
		d.wantExit(j, 0)
		d.wantCounted(j, 10, nil)
	})
}

// A crash came between the exit and the removal, or the end.
func testRunExitSaved(t *testing.T) {
	withRunDaemon(t, enginetest.Print("up", "", 5), func(d *daemon) {
		var kept *storetest.Store
		d.store.OnSave(func(records []store.Record) {
			if len(records) == 1 && records[0].Job.State == puller.StateSucceeded && kept == nil {
				kept = d.store.Reopen()
			}
		})
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 5)
		d.close()
		d.store = kept
		d.open()
		d.wantExit(j, 5)
		if n := d.engine.Counts().Created; n != 1 {
			d.Errorf("%d containers were created", n)
		}
		if stdout, _ := d.output(j); stdout != "up" {
			d.Errorf("it printed %q", stdout)
		}
	})
}

func testRunCancelWhileAwaited(t *testing.T) {
	withRunDaemon(t, enginetest.Hang("up"), func(d *daemon) {
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		<-time.After(time.Second)
		d.down(d.engine.Kill)
		d.crash()
		<-time.After(time.Second)
		time.AfterFunc(5*time.Second, d.engine.Revive)
		if _, err := d.Cancel(j.ID); err != nil {
			d.Error(err)
		}
		d.failed(j, puller.ErrCanceled)
		d.wantNoContainers()
	})
}

// A crash comes between the engine's answer to the cancel of a run, and the run's end.
func testRunCancelThenCrash(t *testing.T) {
	for name, down := range map[string]func(d *daemon){
		"it runs on":         func(*daemon) {},
		"it ends meanwhile":  func(*daemon) { <-time.After(time.Minute) },
		"it is gone by then": func(d *daemon) { d.vanish(d.engine.Containers()[0].ID) },
	} {
		for how, stop := range ends {
			t.Run(name+", "+how, func(t *testing.T) {
				withRunDaemon(t, counting(20, 0), func(d *daemon) {
					j := d.run(puller.RunRequest{})
					d.inState(j, puller.StateActive, puller.PhaseRunning)
					release := d.stuck("stop")
					go d.Cancel(j.ID)
					synctest.Wait()
					d.down(func() { d.engine.OnContainer(nil); down(d) })
					began := time.Now()
					stop(d)
					d.failed(j, puller.ErrCanceled)
					if took := time.Since(began); took > time.Minute+15*time.Second {
						d.Errorf("it took %s", took)
					}
					release()
					d.wantNoContainers()
				})
			})
		}
	}
}

// cancelAfterCrash cancels a run that has a daemon started anew wait for the
// engine's answer to a call.
func (d *daemon) cancelAfterCrash(j puller.Job, at string) {
	d.Helper()
	var release func()
	d.down(func() { release = d.stuck(at) })
	d.crash()
	synctest.Wait()
	canceled := make(chan error)
	go func() { _, err := d.Cancel(j.ID); canceled <- err }()
	synctest.Wait()
	release()
	if err := <-canceled; err != nil {
		d.Error(err)
	}
	d.failed(j, puller.ErrCanceled)
	d.wantNoContainers()
}

// Nothing has asked for the job's context by then.
func testRunCancelWhileRemoved(t *testing.T) {
	withRunDaemon(t, nil, func(d *daemon) {
		held := d.stuck("remove")
		defer held()
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseRemoving)
		<-time.After(time.Second)
		d.cancelAfterCrash(j, "list")
	})
}

func testRunSlowReader(t *testing.T) {
	withRunDaemon(t, func(p *enginetest.Process) int {
		for range 1000 {
			io.WriteString(p.Stdout(), strings.Repeat("x", 1000))
			p.Wait(time.Millisecond)
		}
		return 0
	}, func(d *daemon) {
		j := d.run(puller.RunRequest{})
		began := time.Now()
		v := d.wantExit(j, 0)
		if took := time.Since(began); took > 2*time.Second {
			d.Errorf("it took %s", took)
		}
		stdout, _ := printed(d, d.events(j))
		if len(stdout) == 1_000_000 == v.Result.Truncated {
			d.Errorf("of its output %d bytes are there, and truncated is %t", len(stdout), v.Result.Truncated)
		}
		synctest.Wait()
	})
}
