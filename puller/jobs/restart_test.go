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
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream"
)

// since returns the numbered frames that a job's readers are told after seq,
// to the end of the job.
func (d *daemon) since(j puller.Job, seq uint64) (frames []stream.Frame) {
	d.Helper()
	d.end(j)
	all, _, err := d.Watch(j.ID, &seq)
	if err != nil {
		d.Fatal(err)
	}
	for _, f := range all {
		if f.Seq != 0 {
			frames = append(frames, f)
		}
	}
	return frames
}

// record returns all events of a job that has ended.
func (d *daemon) record(j puller.Job) string {
	d.Helper()
	v, err := json.Marshal(d.end(j))
	if err != nil {
		d.Fatal(err)
	}
	for _, f := range d.since(j, 0) {
		v = stream.NDJSON.Append(append(v, '\n'), &f, j.ID)
	}
	return string(v)
}

// eventsSoFar returns what the reader of a job has been told so far.
func (d *daemon) eventsSoFar(j puller.Job) (events []puller.Event) {
	d.Helper()
	d.mu.Lock()
	r := d.readers[j.ID]
	d.mu.Unlock()
	for {
		frames, err := next(d.Context(), r.sub, time.Millisecond)
		r.take(frames, j.ID)
		if len(frames) == 0 || err != nil {
			break
		}
	}
	for _, line := range r.lines {
		var e puller.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			d.Fatal(err)
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
	t.Parallel()
	phases := map[string]struct {
		prepare func(d *daemon)
		state   puller.State
		phase   puller.Phase
		policy  puller.Policy
		resume  func(d *daemon) // after the end of the first start
	}{
		"queued": {func(d *daemon) {
			d.hold(other)
			d.inState(d.pullAlways(other), puller.StateActive, puller.PhasePulling)
		}, puller.StateQueued, "", puller.PolicyAlways, func(d *daemon) { d.serve(other) }},
		"checking": {func(d *daemon) {
			d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) { <-gone; return 0, "" })
		}, puller.StateQueued, "", puller.PolicyMissing, func(d *daemon) { d.engine.OnInspect(nil) }},
		"resolving": {func(d *daemon) { d.attempts(good, silently, served()) }, puller.StateActive, puller.PhaseResolving, puller.PolicyAlways, nil},
		"pulling":   {func(d *daemon) { d.hold(good) }, puller.StateActive, puller.PhasePulling, puller.PolicyMissing, nil},
		"verifying": {func(d *daemon) {
			d.serve(good)
			looks := 0
			d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
				if looks++; looks > 1 {
					<-gone
				}
				return 0, ""
			})
		}, puller.StateActive, puller.PhaseVerifying, puller.PolicyAlways, func(d *daemon) { d.engine.OnInspect(nil) }},
		"waiting for the next attempt": {func(d *daemon) {
			d.engine.Script(good, cut)
		}, puller.StateActive, puller.PhaseResolving, puller.PolicyAlways, nil},
		"in a cool-down": {func(d *daemon) { d.attempts(good, limited, served()) }, puller.StateActive, puller.PhaseResolving, puller.PolicyAlways, nil},
		"the engine away": {func(d *daemon) { d.engine.Kill() }, puller.StateQueued, "", puller.PolicyMissing, func(d *daemon) {
			go func() { <-time.After(10 * time.Second); d.engine.Revive() }()
		}},
	}
	o := patient
	o.Concurrency, o.Retries = 1, 20
	for name, c := range phases {
		for how, stop := range map[string]func(d *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart} {
			t.Run(name+", "+how, func(t *testing.T) {
				withDaemonOf(t, o, nil, func(d *daemon) {
					d.engine.Tag("registry.test/there:v1", enginetest.NewImage("registry.test/there:v1", 3))
					ended := d.submitted("registry.test/there:v1")
					was := d.record(ended)
					c.prepare(d)
					j := d.submit(puller.PullRequest{Image: good, Policy: c.policy})
					d.inState(j, c.state, c.phase)
					var seen []puller.Event
					for again := d.eventsSoFar(j); len(again) > len(seen); again = d.eventsSoFar(j) {
						seen = again
						<-time.After(200 * time.Millisecond) // it is on disk
					}
					d.inState(j, c.state, c.phase)
					last := seen[len(seen)-1].Seq
					d.serve(good)
					d.open = func(open func()) func() {
						return func() {
							d.open = open
							if c.resume != nil {
								c.resume(d)
							}
							open()
						}
					}(d.open)
					stop(d)

					v := d.end(j)
					if v.State != puller.StateSucceeded || !v.CreatedAt.Equal(j.CreatedAt) {
						d.Fatalf("the job ended as %s: %+v", v.State, v)
					}
					if v.StartedAt.After(v.FinishedAt) {
						d.Errorf("it started %s and finished %s", v.StartedAt, v.FinishedAt)
					}
					all, after := d.since(j, 0), d.since(j, last)
					if len(all) != len(seen)+len(after) {
						d.Errorf("of %d events a reader got %d and then %d", len(all), len(seen), len(after))
					}
					for i, f := range all {
						if i < len(seen) && f.Seq != seen[i].Seq || i > 0 && f.Seq <= all[i-1].Seq {
							d.Errorf("event %d is number %d", i, f.Seq)
						}
					}
					if f := after[len(after)-1]; f.Type != "result" || after[0].Seq <= last {
						d.Errorf("after %d there came %d, and in the end %s", last, after[0].Seq, f.Type)
					}
					is := d.record(j)
					for range 3 {
						d.crash()
						d.restart()
						if again := d.record(j); again != is {
							d.Errorf("after restarts it is\n%s\nnot\n%s", again, is)
						}
					}
					if again := d.record(ended); again != was {
						d.Errorf("what had ended before is\n%s\nnot\n%s", again, was)
					}
				})
			})
		}
	}
}

// A result that is not on disk was told to nobody.
func TestCrashBeforeResultSaved(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		j := d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		open, saves := d.block()
		release()
		d.inState(j, puller.StateActive, puller.PhaseVerifying)
		if saves.Load() != 1 {
			d.Fatal("its result is not being saved")
		}
		seen := d.eventsSoFar(j)
		kept := d.store.Reopen()
		open()
		d.close()
		d.store = kept
		d.open()
		d.succeeded(j, puller.SourceUpToDate)
		after := d.since(j, seen[len(seen)-1].Seq)
		results := 0
		for _, f := range after {
			if f.Type == "result" {
				results++
			}
		}
		if results != 1 || after[len(after)-1].Type != "result" {
			d.Errorf("there are %d results", results)
		}
	})
}

// No number is given twice, whatever the store could keep of the starts.
func TestRestartEventNumbers(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		j := d.pullAlways(good)
		given := map[uint64]string{}
		last := uint64(0)
		for i, stop := range []func(){
			d.crash, d.restart, d.crash,
			func() { d.store.Fail(errFull); d.close(); d.store.Fail(nil); d.open() },
			d.crash, d.restart,
		} {
			d.inState(j, puller.StateActive, puller.PhasePulling)
			r, before := d.follow(j), last
			<-time.After(time.Second)
			stop()
			for { // also what was told at the end
				frames, err := next(d.Context(), r.sub, time.Second)
				if r.take(frames, j.ID); err != nil {
					break
				}
			}
			fresh := 0
			for _, line := range r.lines {
				var e puller.Event
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					d.Fatal(err)
				}
				switch was, known := given[e.Seq]; {
				case e.Seq == 0 || known && was == line:
				case known || e.Seq <= before:
					d.Errorf("start %d, after %d, gave %sfor what was %s", i, before, line, was)
				default:
					fresh++
					given[e.Seq] = line
					last = max(last, e.Seq)
				}
			}
			if fresh < 3 {
				d.Errorf("start %d told %d events", i, fresh)
			}
		}
	})
}

func TestQueueOrderAfterRestart(t *testing.T) {
	t.Parallel()
	for how, stop := range map[string]func(d *daemon){"a crash": (*daemon).crash, "a restart": (*daemon).restart} {
		t.Run(how, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(d *daemon) {
				d.hold(good)
				d.pullAlways(good)
				var mu sync.Mutex
				var order, want []string
				var jobs []puller.Job
				// Later checks take less long.
				d.engine.OnInspect(func(image string, _ <-chan struct{}) (int, string) {
					var i int
					if fmt.Sscanf(image, "registry.test/image%d", &i); i > 0 {
						<-time.After(time.Duration(20-i) * time.Millisecond)
					}
					return 0, ""
				})
				for i, priority := range []puller.Priority{puller.PriorityLow, puller.PriorityNormal, puller.PriorityHigh, puller.PriorityLow, puller.PriorityNormal, puller.PriorityHigh} {
					image := fmt.Sprintf("registry.test/image%d:v1", i+1)
					serve := enginetest.Serve(enginetest.NewImage(image, i+2))
					d.engine.Script(image, func(p *enginetest.Pull) {
						mu.Lock()
						order = append(order, p.Image)
						mu.Unlock()
						serve(p)
					})
					jobs = append(jobs, d.submit(puller.PullRequest{Image: image, Priority: priority}))
				}
				for _, i := range []int{3, 6, 2, 5, 1, 4} {
					want = append(want, fmt.Sprintf("registry.test/image%d:v1", i))
				}
				release := d.hold(good)
				stop(d)
				<-time.After(time.Second)
				release()
				for _, j := range jobs {
					d.succeeded(j, puller.SourcePulled)
				}
				if !slices.Equal(order, want) {
					d.Errorf("they were pulled in the order %q, not %q", order, want)
				}
			})
		})
	}
}

func TestRestartWithCredentials(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ry-hunter2"
	withDaemonOf(t, patient, nil, func(d *daemon) {
		secret := credentials(t, canary)
		var mu sync.Mutex
		var records []byte
		d.store.OnSave(func(saved []store.Record) {
			data, err := json.Marshal(saved)
			if err != nil {
				panic(err)
			}
			mu.Lock()
			defer mu.Unlock()
			records = append(records, data...)
		})
		d.hold(good)
		d.hold(other)
		request := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret, IdempotencyKey: "ci-1"}
		lost := d.submit(request)
		there := d.submit(puller.PullRequest{Image: other, Policy: puller.PolicyAlways, Credentials: secret})
		parent, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}, Credentials: secret})
		if err != nil {
			d.Fatal(err)
		}
		d.inState(lost, puller.StateActive, puller.PhasePulling)
		d.inState(there, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		d.engine.Tag(other, enginetest.NewImage(other, 9))
		d.engine.Kill()
		d.crash()
		// They wait for the engine.
		<-time.After(10 * time.Second)
		d.inState(lost, puller.StateQueued, "")
		if again := d.submit(request); again.ID != lost.ID {
			d.Errorf("sent again it is %s, not %s", again.ID, lost.ID)
		}
		pulls := d.engine.Counts().Pulls
		d.engine.Revive()
		v := d.failed(lost, puller.ErrDenied)
		if !strings.Contains(v.Error.Message, "send the request again, with the login") {
			d.Errorf("its error is %q", v.Error.Message)
		}
		d.succeeded(there, puller.SourcePresent)
		p := d.failed(parent, puller.ErrDenied)
		if p.Images[0].Error == nil || p.Images[1].Source != puller.SourcePresent {
			d.Errorf("the prewarm's images are %+v", p.Images)
		}
		d.wantPulls(pulls)
		if again := d.submit(request); again.ID != lost.ID {
			d.Errorf("sent again after its end it is %s, not %s", again.ID, lost.ID)
		}
		without := request
		without.Credentials = puller.Credentials{}
		if v, err := d.Pull(without); puller.KindOf(err) != puller.ErrConflict {
			d.Errorf("without credentials it is %+v, %v", v, err)
		}
		d.restart()
		mu.Lock()
		defer mu.Unlock()
		if len(records) == 0 {
			d.Error("nothing was saved")
		}
		for _, form := range []string{canary, "hunter2", secret.Header(), strings.TrimRight(secret.Header(), "="), base64.StdEncoding.EncodeToString([]byte(canary)), encode(canary)} {
			if strings.Contains(string(records), form) {
				d.Errorf("%q is in a record", form)
			}
		}
	})
}

func TestIdempotencyKeyAfterRestart(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		d.hold(other)
		ended := puller.PullRequest{Image: good, IdempotencyKey: "ended"}
		first := d.submit(ended)
		d.succeeded(first, puller.SourcePulled)
		active := puller.PullRequest{Image: other, IdempotencyKey: "active"}
		second := d.submit(active)
		list := puller.PrewarmRequest{Images: puller.Images{{Image: other}, {Image: good}}, IdempotencyKey: "list"}
		third, err := d.Prewarm(list)
		if err != nil {
			d.Fatal(err)
		}
		check := func(when string) {
			d.Helper()
			for _, c := range []struct {
				request puller.PullRequest
				job     puller.Job
			}{{ended, first}, {active, second}} {
				v, err := d.Pull(c.request)
				if err != nil || v.ID != c.job.ID {
					d.Errorf("%s: sent again, it is %+v, %v", when, v, err)
				}
				c.request.Policy = puller.PolicyNewer
				if v, err := d.Pull(c.request); puller.KindOf(err) != puller.ErrConflict {
					d.Errorf("%s: another request is %+v, %v", when, v, err)
				}
			}
			if v, err := d.Prewarm(list); err != nil || v.ID != third.ID {
				d.Errorf("%s: sent again, the prewarm is %+v, %v", when, v, err)
			}
			unlike := list
			unlike.FailFast = true
			if v, err := d.Prewarm(unlike); puller.KindOf(err) != puller.ErrConflict {
				d.Errorf("%s: another prewarm is %+v, %v", when, v, err)
			}
			if v, err := d.Pull(puller.PullRequest{Image: good, IdempotencyKey: "list"}); puller.KindOf(err) != puller.ErrConflict {
				d.Errorf("%s: a pull with a prewarm's key is %+v, %v", when, v, err)
			}
		}
		check("before")
		d.crash()
		check("after a crash")
		d.restart()
		check("after a restart")
		for range 150 {
			d.submitted(good)
		}
		check("after it was forgotten")
		d.serve(other)
		d.restart()
		d.end(second)
		d.end(third)
		for range 150 {
			d.submitted(good)
		}
		check("after all were forgotten")
		if n := len(d.listed()); n != 305 {
			d.Errorf("there are %d jobs", n)
		}
	})
}

func TestTimeoutAfterRestart(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.hold(good)
		j := d.submit(puller.PullRequest{Image: good, Timeout: puller.Duration(10 * time.Second)})
		<-time.After(9 * time.Second)
		d.crash()
		began := time.Now()
		v := d.failed(j, puller.ErrTimeout)
		if took := v.FinishedAt.Sub(began); took != 10*time.Second {
			d.Errorf("it was timed out after %s", took)
		}
	})
}

func TestTimeoutOfPrewarmChild(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, single, nil, func(d *daemon) {
		slow := func(image string, seed int) {
			d.attempts(image, func(p *enginetest.Pull) {
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
		j, err := d.Prewarm(puller.PrewarmRequest{Images: list, Timeout: puller.Duration(10 * time.Second)})
		if err != nil {
			d.Fatal(err)
		}
		<-time.After(12 * time.Second)
		d.crash()
		if v := d.end(j); v.State != puller.StateSucceeded {
			d.Errorf("the prewarm is %s: %+v", v.State, v.Error)
		}
	})
}

func TestPrewarmCrashFailFast(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		gate := make(chan struct{})
		d.engine.Script(good, func(p *enginetest.Pull) {
			if p.Until(gate) {
				p.Refuse(404, "manifest for it not found: manifest unknown: manifest unknown")
			}
		})
		d.hold(other)
		j, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}, FailFast: true})
		if err != nil {
			d.Fatal(err)
		}
		d.wantPulls(2)
		<-time.After(time.Second)
		// The failure is the last that is saved.
		var kept *storetest.Store
		d.store.OnSave(func(records []store.Record) {
			if kept == nil && slices.ContainsFunc(records, func(r store.Record) bool { return r.Job.State == puller.StateCanceled }) {
				kept = d.store.Reopen()
			}
		})
		close(gate)
		synctest.Wait()
		d.close()
		d.store = kept
		d.serve(other)
		d.open()
		v := d.failed(j, puller.ErrNotFound)
		if v.Images[0].Error.Kind != puller.ErrNotFound || v.Images[1].State != puller.StateCanceled {
			d.Errorf("its images are %+v", v.Images)
		}
	})
}
