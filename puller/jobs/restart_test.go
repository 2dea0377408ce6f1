package jobs_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream"
)

// since returns the numbered frames that a job's readers are told after seq,
// to the end of the job.
func (y *daemon) since(j puller.Job, seq uint64) (frames []stream.Frame) {
	y.Helper()
	y.end(j)
	all, _, err := y.Watch(j.ID, &seq)
	if err != nil {
		y.Fatal(err)
	}
	for _, f := range all {
		if f.Seq != 0 {
			frames = append(frames, f)
		}
	}
	return frames
}

// kept returns all that is told of a job that has ended.
func (y *daemon) kept(j puller.Job) string {
	y.Helper()
	v, err := json.Marshal(y.end(j))
	if err != nil {
		y.Fatal(err)
	}
	for _, f := range y.since(j, 0) {
		v = stream.NDJSON.Append(append(v, '\n'), &f, j.ID)
	}
	return string(v)
}

// told returns what the reader of a job has been told so far.
func (y *daemon) told(j puller.Job) (events []puller.Event) {
	y.Helper()
	y.mu.Lock()
	r := y.readers[j.ID]
	y.mu.Unlock()
	for {
		frames, err := next(y.Context(), r.sub, time.Millisecond)
		r.take(frames, j.ID)
		if len(frames) == 0 || err != nil {
			break
		}
	}
	for _, line := range r.lines {
		var e puller.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			y.Fatal(err)
		}
		if e.Seq != 0 {
			events = append(events, e)
		}
	}
	return events
}

// silently begins a pull of which nothing is told.
func silently(p *enginetest.Pull) { <-p.Gone() }

func TestRestartInEveryPhase(t *testing.T) {
	phases := map[string]struct {
		prepare func(y *daemon)
		state   puller.State
		phase   puller.Phase
		policy  puller.Policy
		resume  func(y *daemon) // after the end of the first start
	}{
		"queued": {func(y *daemon) {
			y.hold(other)
			y.is(y.always(other), puller.StateActive, puller.PhasePulling)
		}, puller.StateQueued, "", puller.PolicyAlways, func(y *daemon) { y.serve(other) }},
		"checking": {func(y *daemon) {
			y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) { <-gone; return 0, "" })
		}, puller.StateQueued, "", puller.PolicyMissing, func(y *daemon) { y.engine.OnInspect(nil) }},
		"resolving": {func(y *daemon) { y.attempts(good, silently, served()) }, puller.StateActive, puller.PhaseResolving, puller.PolicyAlways, nil},
		"pulling":   {func(y *daemon) { y.hold(good) }, puller.StateActive, puller.PhasePulling, puller.PolicyMissing, nil},
		"verifying": {func(y *daemon) {
			y.serve(good)
			looks := 0
			y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
				if looks++; looks > 1 {
					<-gone
				}
				return 0, ""
			})
		}, puller.StateActive, puller.PhaseVerifying, puller.PolicyAlways, func(y *daemon) { y.engine.OnInspect(nil) }},
		"waiting for the next attempt": {func(y *daemon) {
			y.engine.Script(good, cut)
		}, puller.StateActive, puller.PhaseResolving, puller.PolicyAlways, nil},
		"in a cool-down": {func(y *daemon) { y.attempts(good, limited, served()) }, puller.StateActive, puller.PhaseResolving, puller.PolicyAlways, nil},
		"the engine away": {func(y *daemon) { y.engine.Kill() }, puller.StateQueued, "", puller.PolicyMissing, func(y *daemon) {
			go func() { <-time.After(10 * time.Second); y.engine.Revive() }()
		}},
	}
	o := patient
	o.Concurrency, o.Retries = 1, 20
	for name, c := range phases {
		for how, stop := range map[string]func(y *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart} {
			t.Run(name+", "+how, func(t *testing.T) {
				withDaemonOf(t, o, nil, func(y *daemon) {
					y.engine.Tag("registry.test/there:v1", enginetest.NewImage("registry.test/there:v1", 3))
					ended := y.submitted("registry.test/there:v1")
					was := y.kept(ended)
					c.prepare(y)
					j := y.submit(puller.PullRequest{Image: good, Policy: c.policy})
					y.is(j, c.state, c.phase)
					var seen []puller.Event
					for again := y.told(j); len(again) > len(seen); again = y.told(j) {
						seen = again
						<-time.After(200 * time.Millisecond) // it is on disk
					}
					y.is(j, c.state, c.phase)
					last := seen[len(seen)-1].Seq
					y.serve(good)
					y.open = func(open func()) func() {
						return func() {
							y.open = open
							if c.resume != nil {
								c.resume(y)
							}
							open()
						}
					}(y.open)
					stop(y)

					v := y.end(j)
					if v.State != puller.StateSucceeded || !v.CreatedAt.Equal(j.CreatedAt) {
						y.Fatalf("the job ended as %s: %+v", v.State, v)
					}
					if v.StartedAt.After(v.FinishedAt) {
						y.Errorf("it started %s and finished %s", v.StartedAt, v.FinishedAt)
					}
					all, after := y.since(j, 0), y.since(j, last)
					if len(all) != len(seen)+len(after) {
						y.Errorf("of %d events a reader got %d and then %d", len(all), len(seen), len(after))
					}
					for i, f := range all {
						if i < len(seen) && f.Seq != seen[i].Seq || i > 0 && f.Seq <= all[i-1].Seq {
							y.Errorf("event %d is number %d", i, f.Seq)
						}
					}
					if f := after[len(after)-1]; f.Type != "result" || after[0].Seq <= last {
						y.Errorf("after %d there came %d, and in the end %s", last, after[0].Seq, f.Type)
					}
					is := y.kept(j)
					for range 3 {
						y.crash()
						y.restart()
						if again := y.kept(j); again != is {
							y.Errorf("after restarts it is\n%s\nnot\n%s", again, is)
						}
					}
					if again := y.kept(ended); again != was {
						y.Errorf("what had ended before is\n%s\nnot\n%s", again, was)
					}
				})
			})
		}
	}
}

// A result that is not on disk was told to nobody.
func TestCrashBeforeResultSaved(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		release := y.hold(good)
		j := y.always(good)
		y.is(j, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		open, saves := y.block()
		release()
		y.is(j, puller.StateActive, puller.PhaseVerifying)
		if saves.Load() != 1 {
			y.Fatal("its result is not being saved")
		}
		seen := y.told(j)
		kept := y.store.Reopen()
		open()
		y.close()
		y.store = kept
		y.open()
		y.came(j, puller.SourceUpToDate)
		after := y.since(j, seen[len(seen)-1].Seq)
		results := 0
		for _, f := range after {
			if f.Type == "result" {
				results++
			}
		}
		if results != 1 || after[len(after)-1].Type != "result" {
			y.Errorf("there are %d results", results)
		}
	})
}

// No number is given twice, whatever the store could keep of the starts.
func TestRestartEventNumbers(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.hold(good)
		j := y.always(good)
		given := map[uint64]string{}
		last := uint64(0)
		for i, stop := range []func(){
			y.crash, y.restart, y.crash,
			func() { y.store.Fail(errFull); y.close(); y.store.Fail(nil); y.open() },
			y.crash, y.restart,
		} {
			y.is(j, puller.StateActive, puller.PhasePulling)
			r, before := y.follow(j), last
			<-time.After(time.Second)
			stop()
			for { // also what was told at the end
				frames, err := next(y.Context(), r.sub, time.Second)
				if r.take(frames, j.ID); err != nil {
					break
				}
			}
			fresh := 0
			for _, line := range r.lines {
				var e puller.Event
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					y.Fatal(err)
				}
				switch was, known := given[e.Seq]; {
				case e.Seq == 0 || known && was == line:
				case known || e.Seq <= before:
					y.Errorf("start %d, after %d, gave %sfor what was %s", i, before, line, was)
				default:
					fresh++
					given[e.Seq] = line
					last = max(last, e.Seq)
				}
			}
			if fresh < 3 {
				y.Errorf("start %d told %d events", i, fresh)
			}
		}
	})
}

func TestQueueOrderAfterRestart(t *testing.T) {
	for how, stop := range map[string]func(y *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart} {
		t.Run(how, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(y *daemon) {
				y.hold(good)
				y.always(good)
				var mu sync.Mutex
				var order, want []string
				var jobs []puller.Job
				// Later checks take less long.
				y.engine.OnInspect(func(image string, _ <-chan struct{}) (int, string) {
					var i int
					if fmt.Sscanf(image, "registry.test/image%d", &i); i > 0 {
						<-time.After(time.Duration(20-i) * time.Millisecond)
					}
					return 0, ""
				})
				for i, priority := range []puller.Priority{puller.PriorityLow, puller.PriorityNormal, puller.PriorityHigh, puller.PriorityLow, puller.PriorityNormal, puller.PriorityHigh} {
					image := fmt.Sprintf("registry.test/image%d:v1", i+1)
					serve := enginetest.Serve(enginetest.NewImage(image, i+2))
					y.engine.Script(image, func(p *enginetest.Pull) {
						mu.Lock()
						order = append(order, p.Image)
						mu.Unlock()
						serve(p)
					})
					jobs = append(jobs, y.submit(puller.PullRequest{Image: image, Priority: priority}))
				}
				for _, i := range []int{3, 6, 2, 5, 1, 4} {
					want = append(want, fmt.Sprintf("registry.test/image%d:v1", i))
				}
				release := y.hold(good)
				stop(y)
				<-time.After(time.Second)
				release()
				for _, j := range jobs {
					y.came(j, puller.SourcePulled)
				}
				if !slices.Equal(order, want) {
					y.Errorf("they were pulled in the order %q, not %q", order, want)
				}
			})
		})
	}
}

func TestRestartWithCredentials(t *testing.T) {
	const canary = "c4n4ry-hunter2"
	withDaemonOf(t, patient, nil, func(y *daemon) {
		secret := credentials(t, canary)
		var mu sync.Mutex
		var records []byte
		y.store.OnSave(func(saved []puller.Record) {
			data, err := json.Marshal(saved)
			if err != nil {
				panic(err)
			}
			mu.Lock()
			defer mu.Unlock()
			records = append(records, data...)
		})
		y.hold(good)
		y.hold(other)
		request := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret, IdempotencyKey: "ci-1"}
		lost := y.submit(request)
		there := y.submit(puller.PullRequest{Image: other, Policy: puller.PolicyAlways, Credentials: secret})
		parent, err := y.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}, Credentials: secret})
		if err != nil {
			y.Fatal(err)
		}
		y.is(lost, puller.StateActive, puller.PhasePulling)
		y.is(there, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		y.engine.Tag(other, enginetest.NewImage(other, 9))
		y.engine.Kill()
		y.crash()
		// They wait for the engine.
		<-time.After(10 * time.Second)
		y.is(lost, puller.StateQueued, "")
		if again := y.submit(request); again.ID != lost.ID {
			y.Errorf("sent again it is %s, not %s", again.ID, lost.ID)
		}
		pulls := y.engine.Counts().Pulls
		y.engine.Revive()
		v := y.failed(lost, puller.ErrDenied)
		if !strings.Contains(v.Error.Message, "ask again") {
			y.Errorf("its error is %q", v.Error.Message)
		}
		y.came(there, puller.SourcePresent)
		p := y.failed(parent, puller.ErrDenied)
		if p.Images[0].Error == nil || p.Images[1].Source != puller.SourcePresent {
			y.Errorf("the prewarm's images are %+v", p.Images)
		}
		y.pulls(pulls)
		if again := y.submit(request); again.ID != lost.ID {
			y.Errorf("sent again after its end it is %s, not %s", again.ID, lost.ID)
		}
		without := request
		without.Credentials = puller.Credentials{}
		if v, err := y.Pull(without); puller.KindOf(err) != puller.ErrConflict {
			y.Errorf("without credentials it is %+v, %v", v, err)
		}
		y.restart()
		mu.Lock()
		defer mu.Unlock()
		if len(records) == 0 {
			y.Error("nothing was saved")
		}
		for _, form := range []string{canary, "hunter2", secret.Header(), strings.TrimRight(secret.Header(), "="), base64.StdEncoding.EncodeToString([]byte(canary)), encode(canary)} {
			if strings.Contains(string(records), form) {
				y.Errorf("%q is in a record", form)
			}
		}
	})
}

func TestIdempotencyKeyAfterRestart(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.serve(good)
		y.hold(other)
		ended := puller.PullRequest{Image: good, IdempotencyKey: "ended"}
		first := y.submit(ended)
		y.came(first, puller.SourcePulled)
		active := puller.PullRequest{Image: other, IdempotencyKey: "active"}
		second := y.submit(active)
		list := puller.PrewarmRequest{Images: puller.Images{{Image: other}, {Image: good}}, IdempotencyKey: "list"}
		third, err := y.Prewarm(list)
		if err != nil {
			y.Fatal(err)
		}
		check := func(when string) {
			y.Helper()
			for _, c := range []struct {
				request puller.PullRequest
				job     puller.Job
			}{{ended, first}, {active, second}} {
				v, err := y.Pull(c.request)
				if err != nil || v.ID != c.job.ID {
					y.Errorf("%s: sent again, it is %+v, %v", when, v, err)
				}
				c.request.Policy = puller.PolicyNewer
				if v, err := y.Pull(c.request); puller.KindOf(err) != puller.ErrConflict {
					y.Errorf("%s: another request is %+v, %v", when, v, err)
				}
			}
			if v, err := y.Prewarm(list); err != nil || v.ID != third.ID {
				y.Errorf("%s: sent again, the prewarm is %+v, %v", when, v, err)
			}
			unlike := list
			unlike.FailFast = true
			if v, err := y.Prewarm(unlike); puller.KindOf(err) != puller.ErrConflict {
				y.Errorf("%s: another prewarm is %+v, %v", when, v, err)
			}
			if v, err := y.Pull(puller.PullRequest{Image: good, IdempotencyKey: "list"}); puller.KindOf(err) != puller.ErrConflict {
				y.Errorf("%s: a pull with a prewarm's key is %+v, %v", when, v, err)
			}
		}
		check("before")
		y.crash()
		check("after a crash")
		y.restart()
		check("after a restart")
		for range 150 {
			y.submitted(good)
		}
		check("after it was forgotten")
		y.serve(other)
		y.restart()
		y.end(second)
		y.end(third)
		for range 150 {
			y.submitted(good)
		}
		check("after all were forgotten")
		if n := len(y.listed()); n != 305 {
			y.Errorf("there are %d jobs", n)
		}
	})
}

func TestTimeoutAfterRestart(t *testing.T) {
	withDaemonOf(t, once, nil, func(y *daemon) {
		y.hold(good)
		j := y.submit(puller.PullRequest{Image: good, Timeout: puller.Duration(10 * time.Second)})
		<-time.After(9 * time.Second)
		y.crash()
		began := time.Now()
		v := y.failed(j, puller.ErrTimeout)
		if took := v.FinishedAt.Sub(began); took != 10*time.Second {
			y.Errorf("it was timed out after %s", took)
		}
	})
}

func TestTimeoutOfPrewarmChild(t *testing.T) {
	withDaemonOf(t, single, nil, func(y *daemon) {
		slow := func(image string, seed int) {
			y.attempts(image, func(p *enginetest.Pull) {
				if p.Wait(8 * time.Second) {
					enginetest.Serve(enginetest.NewImage(image, seed))(p)
				}
			})
		}
		var list puller.Images
		for i := range 5 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			slow(image, i+1)
			list = append(list, puller.PullRequest{Image: image})
		}
		j, err := y.Prewarm(puller.PrewarmRequest{Images: list, Timeout: puller.Duration(10 * time.Second)})
		if err != nil {
			y.Fatal(err)
		}
		<-time.After(12 * time.Second)
		y.crash()
		if v := y.end(j); v.State != puller.StateSucceeded {
			y.Errorf("the prewarm is %s: %+v", v.State, v.Error)
		}
	})
}

func TestPrewarmCrashFailFast(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		gate := make(chan struct{})
		y.engine.Script(good, func(p *enginetest.Pull) {
			if p.Until(gate) {
				p.Refuse(404, "manifest for it not found: manifest unknown: manifest unknown")
			}
		})
		y.hold(other)
		j, err := y.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}, FailFast: true})
		if err != nil {
			y.Fatal(err)
		}
		y.pulls(2)
		<-time.After(time.Second)
		// The failure is the last that is saved.
		var kept *storetest.Store
		y.store.OnSave(func(records []puller.Record) {
			if kept == nil && slices.ContainsFunc(records, func(r puller.Record) bool { return r.Job.State == puller.StateCanceled }) {
				kept = y.store.Reopen()
			}
		})
		close(gate)
		synctest.Wait()
		y.close()
		y.store = kept
		y.serve(other)
		y.open()
		v := y.failed(j, puller.ErrNotFound)
		if v.Images[0].Error.Kind != puller.ErrNotFound || v.Images[1].State != puller.StateCanceled {
			y.Errorf("its images are %+v", v.Images)
		}
	})
}
