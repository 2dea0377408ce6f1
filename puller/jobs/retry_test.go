package jobs_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/stream/pullstream"
)

// patient has a watchdog and retries.
var patient = jobs.Options{
	Concurrency: 4, Policy: puller.PolicyMissing, Retries: 3, Timeout: 24 * time.Hour,
	FirstByteTimeout: time.Minute, StallTimeout: time.Minute, ExtractStallTimeout: 10 * time.Minute,
}

// attempts has the nth pull of an image play the nth script; the last one stays.
func (d *daemon) attempts(image string, scripts ...enginetest.Script) {
	var mu sync.Mutex
	d.engine.Script(image, func(p *enginetest.Pull) {
		mu.Lock()
		script := scripts[0]
		if len(scripts) > 1 {
			scripts = scripts[1:]
		}
		mu.Unlock()
		script(p)
	})
}

func fails(message string) enginetest.Script {
	return func(p *enginetest.Pull) {
		p.Line(line(layerA, "Downloading", 300, 1000))
		p.Fail(message)
	}
}

func cut(p *enginetest.Pull) {
	p.Line(line(layerA, "Downloading", 300, 1000))
	p.Cut()
}

func served() enginetest.Script { return enginetest.Serve(enginetest.NewImage(good, 1)) }

// begun returns when each attempt began.
func begun(events []puller.Event) map[int]time.Time {
	at := map[int]time.Time{}
	for _, e := range events {
		if e.Type == "state" && e.Phase == puller.PhaseResolving {
			at[e.Attempt] = e.Time
		}
	}
	return at
}

func TestRetry(t *testing.T) {
	t.Parallel()
	t.Run("transient", testRetryTransient)
	t.Run("not permanent", testRetryNotPermanent)
	t.Run("waits", testRetryWaits)
	t.Run("corrupt once", testRetryCorruptOnce)
	t.Run("progress", testRetryProgress)
	t.Run("asks engine first", testRetryAsksEngineFirst)
	t.Run("after corrupt", testRetryAfterCorrupt)
	t.Run("moved tag", testRetryMovedTag)
	t.Run("per job", testRetryPerJob)
	t.Run("cancel while waiting", testRetryCancelWhileWaiting)
	t.Run("timeout while waiting", testRetryTimeoutWhileWaiting)
	t.Run("cool down too long", testRetryCoolDownTooLong)
	t.Run("notice", testRetryNotice)
	t.Run("many jobs", testRetryManyJobs)
}

func testRetryTransient(t *testing.T) {
	for _, c := range []struct {
		name   string
		script enginetest.Script
		kind   puller.ErrorKind
	}{
		{"cut", cut, puller.ErrTruncated},
		{"garbage", func(p *enginetest.Pull) { p.Line(`<html>`) }, puller.ErrTruncated},
		{"a good end without an image", func(p *enginetest.Pull) { p.Line(line(layerA, "Pull complete")) }, puller.ErrTruncated},
		{"the registry is down", fails("dial tcp 10.0.0.1:443: connect: connection refused"), puller.ErrRegistryUnavailable},
		{"the registry breaks off", fails("unexpected EOF"), puller.ErrRegistryUnavailable},
		{"the engine is being stopped", fails("context canceled"), puller.ErrEngineUnavailable},
		{"stalled", func(p *enginetest.Pull) { p.Line(line(layerA, "Downloading", 300, 1000)); silence(p) }, puller.ErrStalled},
		{"silent from the beginning", silence, puller.ErrStalled},
		{"the rate is limited", fails("toomanyrequests: slow down"), puller.ErrRateLimited},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.engine.Script(good, c.script)
				j := d.pullAlways(good)
				if v := d.failed(j, c.kind); v.Attempt != 4 {
					d.Errorf("it ended with attempt %d", v.Attempt)
				}
				d.wantPulls(4)
				events := d.events(j)
				if got := notices(events); len(got) != 3 {
					d.Errorf("the notices are %q", got)
				}
				if got := begun(events); len(got) != 4 {
					d.Errorf("the attempts began at %v", got)
				}
				// And it succeeds as soon as it can.
				d.attempts(good, c.script, c.script, served())
				if v := d.succeeded(d.pullAlways(good), puller.SourcePulled); v.Attempt != 3 || v.Error != nil {
					d.Errorf("it succeeded as %+v", v)
				}
			})
		})
	}
}

func testRetryNotPermanent(t *testing.T) {
	for message, kind := range map[string]puller.ErrorKind{
		"manifest unknown": puller.ErrNotFound, "unauthorized": puller.ErrDenied, "no space left on device": puller.ErrNoSpace,
		"no matching manifest for linux/arm64": puller.ErrPlatformMismatch, "invalid reference format": puller.ErrInvalidRequest,
		"something never heard of": puller.ErrInternal,
	} {
		t.Run(string(kind), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.engine.Script(good, fails(message))
				j := d.pullAlways(good)
				if v := d.failed(j, kind); v.Attempt != 1 || !v.FinishedAt.Equal(v.CreatedAt) {
					d.Errorf("it ended with attempt %d after %s", v.Attempt, v.FinishedAt.Sub(v.CreatedAt))
				}
				d.wantPulls(1)
				if got := notices(d.events(j)); len(got) != 0 {
					d.Errorf("the notices are %q", got)
				}
			})
		})
	}
}

func testRetryWaits(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Script(good, cut)
		retries := 20
		j := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &retries})
		d.failed(j, puller.ErrTruncated)
		events := d.events(j)
		began := begun(events)
		if len(began) != 21 || len(notices(events)) != 20 {
			d.Fatalf("%d attempts, %d notices", len(began), len(notices(events)))
		}
		var waits []time.Duration
		var all time.Duration
		most := time.Second
		for n := 2; n <= 21; n++ {
			wait := began[n].Sub(began[n-1]) // the attempts themselves take no time
			if wait < most/2 || wait >= most {
				d.Errorf("attempt %d came %s after the one before, not after %s to %s", n, wait, most/2, most)
			}
			if all += wait; n == 7 && all < 30*time.Second {
				d.Errorf("the waits of six retries are %s in all", all)
			}
			waits = append(waits, wait)
			most = min(2*most, 30*time.Second)
		}
		slices.Sort(waits)
		if len(slices.Compact(waits)) < 15 {
			d.Errorf("the waits are not random: %s", waits)
		}
	})
}

func testRetryCorruptOnce(t *testing.T) {
	const words = "filesystem layer verification failed for digest sha256:abc"
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Script(good, fails(words))
		if v := d.failed(d.pullAlways(good), puller.ErrCorrupt); v.Attempt != 2 {
			d.Errorf("it ended with attempt %d", v.Attempt)
		}
		d.wantPulls(2)
		d.attempts(good, cut, fails(words), cut, served())
		if v := d.succeeded(d.pullAlways(good), puller.SourcePulled); v.Attempt != 4 {
			d.Errorf("it succeeded with attempt %d", v.Attempt)
		}
		none := 0
		d.attempts(good, fails(words))
		v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &none}), puller.ErrCorrupt)
		if v.Attempt != 1 {
			d.Errorf("with no retries it ended with attempt %d", v.Attempt)
		}
	})
}

func testRetryProgress(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		second := make(chan struct{})
		d.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 900, 1000))
			p.Line(line(layerB, "Downloading", 900, 1000))
			p.Cut()
		}, func(p *enginetest.Pull) {
			p.Until(second)
			p.Line(line(layerB, "Downloading", 100, 1000))
			p.Until(second)
			served()(p)
		})
		a, b := d.pullAlways(good), d.pullAlways(good)
		<-time.After(2 * time.Second) // the first wait is under one
		for _, j := range []puller.Job{a, b} {
			d.inState(j, puller.StateActive, puller.PhaseResolving)
			v := d.settled(j)
			if v.ID != j.ID || v.Attempt != 2 || v.Progress == nil || *v.Progress != (pullstream.Totals{}) {
				d.Errorf("the second attempt begins with %+v", v.Progress)
			}
		}
		close(second)
		d.succeeded(a, puller.SourcePulled)
		v := d.succeeded(b, puller.SourcePulled)
		if v.Progress.Downloaded != 2000 || v.Result.Downloaded != 2000 || v.Progress.Layers != 2 {
			d.Errorf("in the end the progress is %+v", v.Progress)
		}
	})
}

func testRetryAsksEngineFirst(t *testing.T) {
	// The engine finishes what its cut stream did not tell.
	tagged := func(p *enginetest.Pull) {
		p.Line(line(layerA, "Downloading", 300, 1000))
		p.Tag(enginetest.NewImage(good, 1))
		p.Cut()
	}
	for _, c := range []struct {
		policy puller.Policy
		source puller.Source // of what came with the cut stream, it is known that it is there
		pulls  int
	}{{puller.PolicyMissing, puller.SourcePresent, 1}, {puller.PolicyAlways, puller.SourcePulled, 2}} {
		t.Run(string(c.policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.attempts(good, tagged, served())
				j := d.succeeded(d.submit(puller.PullRequest{Image: good, Policy: c.policy}), c.source)
				if j.Result.Digest == "" {
					d.Errorf("the result is %+v", j.Result)
				}
				d.wantPulls(c.pulls)
			})
		})
	}
}

func testRetryAfterCorrupt(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.attempts(good, func(p *enginetest.Pull) {
			p.Tag(enginetest.NewImage(good, 9))
			p.Line(`{"status":"Digest: ` + enginetest.Digest(enginetest.NewImage(good, 1)) + `"}`)
		}, served())
		j := d.succeeded(d.submit(puller.PullRequest{Image: good}), puller.SourcePulled)
		if want := enginetest.NewImage(good, 1).ID; j.Result.ImageID != want || j.Attempt != 2 {
			d.Errorf("the result is %+v of attempt %d", j.Result, j.Attempt)
		}
		d.wantPulls(2)
	})
}

// Someone else moves the tag to another image between the pull and its proof.
func testRetryMovedTag(t *testing.T) {
	for _, c := range []struct {
		name    string
		retries int
	}{{"with retries", 1}, {"without", 0}} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				moved, inspects := enginetest.NewImage(good, 2), 0
				d.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
					if inspects++; inspects == 2 {
						d.engine.Tag(good, moved)
					}
					return 0, ""
				})
				d.attempts(good, served(), enginetest.Serve(moved))
				j := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &c.retries})
				if c.retries == 0 {
					d.failed(j, puller.ErrCorrupt)
					return
				}
				if v := d.succeeded(j, puller.SourcePulled); v.Result.ImageID != moved.ID || v.Result.Digest != enginetest.Digest(moved) {
					d.Errorf("the result is %+v", v.Result)
				}
			})
		})
	}
}

func testRetryPerJob(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		gate := make(chan struct{})
		d.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			p.Until(gate)
			p.Cut()
		}, cut, served())
		submit := func(retries int) puller.Job {
			return d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &retries})
		}
		none, one, three := submit(0), submit(1), submit(3)
		d.inState(three, puller.StateActive, puller.PhasePulling)
		close(gate)
		if v := d.failed(none, puller.ErrTruncated); v.Attempt != 1 {
			d.Errorf("the job without retries ended with attempt %d", v.Attempt)
		}
		if v := d.failed(one, puller.ErrTruncated); v.Attempt != 2 {
			d.Errorf("the job with one ended with attempt %d", v.Attempt)
		}
		if v := d.succeeded(three, puller.SourcePulled); v.Attempt != 3 {
			d.Errorf("the job with three ended with attempt %d", v.Attempt)
		}
		d.wantPulls(3)
		for j, want := range map[string]int{none.ID: 0, one.ID: 1, three.ID: 2} {
			if got := notices(d.events(puller.Job{ID: j})); len(got) != want {
				d.Errorf("a job was told of %q, not of %d waits", got, want)
			}
		}
	})
}

// waiting has a job wait for its second attempt: for a moment, or for 15 s.
var waiting = map[string]enginetest.Script{"the backoff": cut, "a cool-down": fails("toomanyrequests")}

func testRetryCancelWhileWaiting(t *testing.T) {
	for name, script := range waiting {
		for _, c := range []struct {
			name string
			end  func(d *daemon, j puller.Job)
			kind puller.ErrorKind
		}{
			{"cancel", func(d *daemon, j puller.Job) {
				if _, err := d.Cancel(j.ID); err != nil {
					d.Error(err)
				}
			}, puller.ErrCanceled},
			{"Close", func(d *daemon, j puller.Job) {
				if err := d.Close(d.Context()); err != nil {
					d.Error(err)
				}
			}, ""},
		} {
			t.Run(c.name+" in "+name, func(t *testing.T) {
				withDaemonOf(t, patient, nil, func(d *daemon) {
					d.engine.Script(good, script)
					j := d.pullAlways(good)
					d.inState(j, puller.StateActive, puller.PhaseResolving)
					d.wantPulls(1)
					began := time.Now()
					c.end(d, j)
					if c.kind == "" {
						d.paused(j)
					} else {
						d.failed(j, c.kind)
					}
					if took := time.Since(began); took != 0 {
						d.Errorf("it took %s", took)
					}
					<-time.After(time.Hour)
					d.wantPulls(1)
				})
			})
		}
	}
}

func testRetryTimeoutWhileWaiting(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Script(good, cut)
		timeout, retries := 10*time.Second, 20
		v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Timeout: puller.Duration(timeout), Retries: &retries}), puller.ErrTimeout)
		if took := v.FinishedAt.Sub(v.CreatedAt); took != timeout || !strings.Contains(v.Error.Message, "the last attempt failed: ") {
			d.Errorf("it ended after %s: %s", took, v.Error.Message)
		}
		n := d.engine.Counts().Pulls
		<-time.After(time.Hour)
		d.wantPulls(n)
	})
}

// A job whose time is up before the cool-down's end is not kept waiting, but
// told when to come back; nor is one that comes during the cool-down.
func testRetryCoolDownTooLong(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Script(good, fails("toomanyrequests"))
		short := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Timeout: puller.Duration(10 * time.Second)}
		waits := d.pullAlways(good)
		for range 2 {
			v := d.failed(d.submit(short), puller.ErrRateLimited)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != 0 || v.Error.RetryAfterSeconds != 15 {
				d.Errorf("it ended after %s with %+v", took, v.Error)
			}
		}
		d.serve(good)
		d.succeeded(waits, puller.SourcePulled)
	})
}

func testRetryNotice(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Retrying in 2 seconds"))
			p.Fail("connection refused")
		}, served())
		j := d.pullAlways(good)
		d.succeeded(j, puller.SourcePulled)
		got := notices(d.events(j))
		if len(got) != 2 || !strings.Contains(got[0], "tries layer "+layerA) ||
			!strings.HasPrefix(got[1], "attempt 1 failed (") || !strings.Contains(got[1], "the next one begins in ") {
			d.Errorf("the notices are %q", got)
		}
	})
}

func testRetryManyJobs(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.hold(good)
		jobs := make([]puller.Job, 200)
		for i := range jobs {
			jobs[i] = d.submit(puller.PullRequest{Image: good, Policy: []puller.Policy{puller.PolicyMissing, puller.PolicyAlways}[i%2]})
		}
		d.inState(jobs[199], puller.StateActive, puller.PhasePulling)
		d.engine.Kill()
		<-time.After(5 * time.Second)
		d.serve(good)
		d.engine.Revive()
		for _, j := range jobs {
			if v := d.succeeded(j, puller.SourcePulled); v.Attempt != 2 {
				d.Fatalf("a job ended with attempt %d", v.Attempt)
			}
		}
		d.wantPulls(2)
		synctest.Wait()
		if c := d.engine.Counts(); c.Active != 0 || c.Open > 20 {
			d.Errorf("there are left: %+v", c)
		}
	})
}
