package jobs_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// interrupted waits for a run that is to fail since its engine was restarted.
func (d *daemon) interrupted(j puller.Job) {
	d.Helper()
	v := d.failed(j, puller.ErrEngineUnavailable)
	if r := v.Result; r == nil || !r.Interrupted || r.ExitCode != nil || r.ImageID == "" {
		d.Errorf("the result is %+v", r)
	}
	if !strings.Contains(v.Error.Message, "restarted while the program ran") {
		d.Errorf("the error is %q", v.Error.Message)
	}
	d.wantNoContainers()
}

// A program that handles SIGTERM exits with 0 when its engine is stopped.
func TestExitCausedByEngine(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]func(d *daemon){
		"stopped":                    func(d *daemon) { d.engine.Shutdown(0); d.engine.Revive() },
		"stopped, for long":          func(d *daemon) { d.engine.Shutdown(0); <-time.After(30 * time.Second); d.engine.Revive() },
		"stopped, with last answers": func(d *daemon) { d.engine.Shutdown(10 * time.Second); d.engine.Revive() },
		"stopped, busy as it was": func(d *daemon) {
			d.engine.AddEvents(300)
			d.engine.Shutdown(10 * time.Second)
			d.engine.Revive()
		},
		"killed, and it exits meanwhile": func(d *daemon) {
			d.engine.Kill()
			<-time.After(time.Minute)
			d.engine.Revive()
		},
		"stopped under no towline": func(d *daemon) {
			d.down(func() { d.engine.Shutdown(0); d.engine.Revive() })
			d.crash()
		},
		"stopped, and towline is killed then": func(d *daemon) {
			d.engine.Shutdown(0)
			<-time.After(time.Second)
			d.down(d.engine.Revive)
			d.crash()
		},
	} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, func(p *enginetest.Process) int {
				p.IgnoreTERM()
				p.Wait(20 * time.Second)
				return 0
			}, func(d *daemon) {
				d.engine.AddEvents(20)
				j := d.run(puller.RunRequest{})
				<-time.After(time.Second)
				restart(d)
				d.interrupted(j)
				is := d.record(j)
				d.crash()
				if again := d.record(j); again != is {
					d.Errorf("after a crash it is\n%s\nnot\n%s", again, is)
				}
			})
		})
	}
}

// What only came between, and an engine that forgets, are no restart.
func TestExitOfProgram(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		during func(d *daemon)
	}{
		"nothing happens":      {func(*daemon) {}},
		"a busy engine":        {func(d *daemon) { d.engine.AddEvents(300) }},
		"no events to be had":  {func(d *daemon) { d.refuses("events", http.StatusForbidden, "forbidden") }},
		"no events any more":   {func(d *daemon) { d.engine.AddEvents(300); d.refuses("events", http.StatusNotFound, "page not found") }},
		"connections are cut":  {func(d *daemon) { d.engine.CutAttached() }},
		"towline is restarted": {func(d *daemon) { d.restart() }},
		"towline is away":      {func(d *daemon) { d.down(func() { <-time.After(time.Minute) }); d.crash() }},
		"the engine keeps what runs": {func(d *daemon) {
			d.engine.Kill()
			<-time.After(time.Second)
			d.engine.Revive()
		}},
		"it does, under no towline": {func(d *daemon) {
			d.down(func() { d.engine.Kill(); <-time.After(time.Second); d.engine.Revive() })
			d.crash()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, counting(5, 0), func(d *daemon) {
				j := d.run(puller.RunRequest{})
				<-time.After(time.Second)
				c.during(d)
				if v := d.wantExit(j, 0); v.Result.Interrupted {
					d.Errorf("the result is %+v", v.Result)
				}
				d.wantCounted(j, 5, nil)
				d.wantNoContainers()
			})
		})
	}
}

// refuses has the engine refuse calls of a kind from now on.
func (d *daemon) refuses(at string, status int, message string) {
	d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
		if call == at {
			return status, message
		}
		return 0, ""
	})
}

// An engine that is coming back does not take a start at once, or says that it has
// what it has not.
func TestContainerStartRetried(t *testing.T) {
	t.Parallel()
	const id = "352e3742e822c29c932768c075f1660c9fb4a4efcc7ed17bf424537436377dd9"
	for name, message := range map[string]string{
		"shutting down":    "the daemon is shutting down",
		"a task is left":   "failed to create task for container: task " + id + ": already exists: unknown",
		"an ID is in use":  "containerd: id already in use: unknown",
		"a shim is away":   "ttrpc: closed: unknown",
		"an endpoint left": "endpoint with name x already exists in network bridge",
	} {
		for _, away := range []time.Duration{20 * time.Second, 10 * time.Minute} {
			t.Run(name+" for "+away.String(), func(t *testing.T) {
				o := running
				o.FirstByteTimeout = time.Minute
				withDaemonOf(t, o, nil, func(d *daemon) {
					d.engine.Program(d.serve(good).ID, counting(2, 3))
					began, starts := time.Now(), 0
					d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
						if call == "start" && time.Since(began) < away {
							starts++
							return http.StatusInternalServerError, message
						}
						return 0, ""
					})
					j := d.run(puller.RunRequest{})
					if away < time.Minute {
						d.wantExit(j, 3)
						d.wantCounted(j, 2, nil)
					} else if v := d.failed(j, puller.ErrEngineUnavailable); v.Result != nil {
						d.Errorf("it never ran, and its result is %+v", v.Result)
					}
					if starts > 40 || starts < 5 {
						d.Errorf("it was started %d times", starts)
					}
					if n := d.engine.Counts().Created; n != 1 {
						d.Errorf("%d containers were created", n)
					}
					d.wantNoContainers()
				})
			})
		}
	}
}

// An engine that takes a start, and says then that there was none or that the
// container is being taken away, makes no success, and has nothing run twice.
func TestExitOfContainerNotExited(t *testing.T) {
	t.Parallel()
	for status, kind := range map[string]puller.ErrorKind{
		"created": puller.ErrEngineUnavailable, "removing": puller.ErrInternal, "dead": puller.ErrInternal, "": puller.ErrInternal, "unheard-of": puller.ErrTruncated,
	} {
		t.Run(status, func(t *testing.T) {
			ran := 0
			withRunDaemon(t, func(*enginetest.Process) int { ran++; return 0 }, func(d *daemon) {
				d.engine.OnContainerAnswer(func(call string, answer any) any {
					switch told := answer.(type) {
					case []any:
						for _, c := range told {
							if ran > 0 {
								c.(map[string]any)["State"] = status
							}
						}
					case map[string]any:
						if state, ok := told["State"].(map[string]any); ok && ran > 0 {
							state["Status"] = status
						}
					}
					return answer
				})
				v := d.failed(d.run(puller.RunRequest{}), kind)
				if v.Result != nil && (v.Result.ExitCode != nil || !v.Result.Interrupted) {
					d.Errorf("the result is %+v", v.Result)
				}
				if ran != 1 {
					d.Errorf("the program ran %d times", ran)
				}
				d.wantNoContainers()
			})
		})
	}
}
