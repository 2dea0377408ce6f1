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
func (y *daemon) attempts(image string, scripts ...enginetest.Script) {
	var mu sync.Mutex
	y.engine.Script(image, func(p *enginetest.Pull) {
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

func TestRetryTransient(t *testing.T) {
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
			withDaemonOf(t, patient, nil, func(y *daemon) {
				y.engine.Script(good, c.script)
				j := y.always(good)
				if v := y.failed(j, c.kind); v.Attempt != 4 {
					y.Errorf("it ended with attempt %d", v.Attempt)
				}
				y.pulls(4)
				events := y.events(j)
				if got := notices(events); len(got) != 3 {
					y.Errorf("the notices are %q", got)
				}
				if got := begun(events); len(got) != 4 {
					y.Errorf("the attempts began at %v", got)
				}
				// And it succeeds as soon as it can.
				y.attempts(good, c.script, c.script, served())
				if v := y.came(y.always(good), puller.SourcePulled); v.Attempt != 3 || v.Error != nil {
					y.Errorf("it succeeded as %+v", v)
				}
			})
		})
	}
}

func TestRetryNotPermanent(t *testing.T) {
	for message, kind := range map[string]puller.ErrorKind{
		"manifest unknown": puller.ErrNotFound, "unauthorized": puller.ErrDenied, "no space left on device": puller.ErrNoSpace,
		"no matching manifest for linux/arm64": puller.ErrPlatformMismatch, "invalid reference format": puller.ErrInvalidRequest,
		"something never heard of": puller.ErrInternal,
	} {
		t.Run(string(kind), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(y *daemon) {
				y.engine.Script(good, fails(message))
				j := y.always(good)
				if v := y.failed(j, kind); v.Attempt != 1 || !v.FinishedAt.Equal(v.CreatedAt) {
					y.Errorf("it ended with attempt %d after %s", v.Attempt, v.FinishedAt.Sub(v.CreatedAt))
				}
				y.pulls(1)
				if got := notices(y.events(j)); len(got) != 0 {
					y.Errorf("the notices are %q", got)
				}
			})
		})
	}
}

func TestRetryWaits(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Script(good, cut)
		retries := 20
		j := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &retries})
		y.failed(j, puller.ErrTruncated)
		events := y.events(j)
		began := begun(events)
		if len(began) != 21 || len(notices(events)) != 20 {
			y.Fatalf("%d attempts, %d notices", len(began), len(notices(events)))
		}
		var waits []time.Duration
		most := time.Second
		for n := 2; n <= 21; n++ {
			wait := began[n].Sub(began[n-1]) // the attempts themselves take no time
			if wait < 0 || wait >= most {
				y.Errorf("attempt %d came %s after the one before, not within %s", n, wait, most)
			}
			waits = append(waits, wait)
			most = min(2*most, 30*time.Second)
		}
		slices.Sort(waits)
		if len(slices.Compact(waits)) < 15 {
			y.Errorf("the waits are not random: %s", waits)
		}
	})
}

func TestRetryCorruptOnce(t *testing.T) {
	const words = "filesystem layer verification failed for digest sha256:abc"
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Script(good, fails(words))
		if v := y.failed(y.always(good), puller.ErrCorrupt); v.Attempt != 2 {
			y.Errorf("it ended with attempt %d", v.Attempt)
		}
		y.pulls(2)
		y.attempts(good, cut, fails(words), cut, served())
		if v := y.came(y.always(good), puller.SourcePulled); v.Attempt != 4 {
			y.Errorf("it succeeded with attempt %d", v.Attempt)
		}
		none := 0
		y.attempts(good, fails(words))
		v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &none}), puller.ErrCorrupt)
		if v.Attempt != 1 {
			y.Errorf("with no retries it ended with attempt %d", v.Attempt)
		}
	})
}

func TestRetryProgress(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		second := make(chan struct{})
		y.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 900, 1000))
			p.Line(line(layerB, "Downloading", 900, 1000))
			p.Cut()
		}, func(p *enginetest.Pull) {
			p.Until(second)
			p.Line(line(layerB, "Downloading", 100, 1000))
			p.Until(second)
			served()(p)
		})
		a, b := y.always(good), y.always(good)
		<-time.After(2 * time.Second) // the first wait is under one
		for _, j := range []puller.Job{a, b} {
			y.is(j, puller.StateActive, puller.PhaseResolving)
			v := y.now(j)
			if v.ID != j.ID || v.Attempt != 2 || v.Progress == nil || *v.Progress != (pullstream.Totals{}) {
				y.Errorf("the second attempt begins with %+v", v.Progress)
			}
		}
		close(second)
		y.came(a, puller.SourcePulled)
		v := y.came(b, puller.SourcePulled)
		if v.Progress.Downloaded != 2000 || v.Result.Downloaded != 2000 || v.Progress.Layers != 2 {
			y.Errorf("in the end the progress is %+v", v.Progress)
		}
	})
}

func TestRetryAsksEngineFirst(t *testing.T) {
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
			withDaemonOf(t, patient, nil, func(y *daemon) {
				y.attempts(good, tagged, served())
				j := y.came(y.submit(puller.PullRequest{Image: good, Policy: c.policy}), c.source)
				if j.Result.Digest == "" {
					y.Errorf("the result is %+v", j.Result)
				}
				y.pulls(c.pulls)
			})
		})
	}
}

func TestRetryAfterCorrupt(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.attempts(good, func(p *enginetest.Pull) {
			p.Tag(enginetest.NewImage(good, 9))
			p.Line(`{"status":"Digest: ` + enginetest.Digest(enginetest.NewImage(good, 1)) + `"}`)
		}, served())
		j := y.came(y.submit(puller.PullRequest{Image: good}), puller.SourcePulled)
		if want := enginetest.NewImage(good, 1).ID; j.Result.ImageID != want || j.Attempt != 2 {
			y.Errorf("the result is %+v of attempt %d", j.Result, j.Attempt)
		}
		y.pulls(2)
	})
}

// Someone else moves the tag to another image between the pull and its proof.
func TestRetryMovedTag(t *testing.T) {
	for _, c := range []struct {
		name    string
		retries int
	}{{"with retries", 1}, {"without", 0}} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(y *daemon) {
				moved, inspects := enginetest.NewImage(good, 2), 0
				y.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
					if inspects++; inspects == 2 {
						y.engine.Tag(good, moved)
					}
					return 0, ""
				})
				y.attempts(good, served(), enginetest.Serve(moved))
				j := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &c.retries})
				if c.retries == 0 {
					y.failed(j, puller.ErrCorrupt)
					return
				}
				if v := y.came(j, puller.SourcePulled); v.Result.ImageID != moved.ID || v.Result.Digest != enginetest.Digest(moved) {
					y.Errorf("the result is %+v", v.Result)
				}
			})
		})
	}
}

func TestRetryPerJob(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		gate := make(chan struct{})
		y.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			p.Until(gate)
			p.Cut()
		}, cut, served())
		submit := func(retries int) puller.Job {
			return y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &retries})
		}
		none, one, three := submit(0), submit(1), submit(3)
		y.is(three, puller.StateActive, puller.PhasePulling)
		close(gate)
		if v := y.failed(none, puller.ErrTruncated); v.Attempt != 1 {
			y.Errorf("the job without retries ended with attempt %d", v.Attempt)
		}
		if v := y.failed(one, puller.ErrTruncated); v.Attempt != 2 {
			y.Errorf("the job with one ended with attempt %d", v.Attempt)
		}
		if v := y.came(three, puller.SourcePulled); v.Attempt != 3 {
			y.Errorf("the job with three ended with attempt %d", v.Attempt)
		}
		y.pulls(3)
		for j, want := range map[string]int{none.ID: 0, one.ID: 1, three.ID: 2} {
			if got := notices(y.events(puller.Job{ID: j})); len(got) != want {
				y.Errorf("a job was told of %q, not of %d waits", got, want)
			}
		}
	})
}

// waiting has a job wait for its second attempt: for a moment, or for 15 s.
var waiting = map[string]enginetest.Script{"the backoff": cut, "a cool-down": fails("toomanyrequests")}

func TestRetryCancelWhileWaiting(t *testing.T) {
	for name, script := range waiting {
		for _, c := range []struct {
			name string
			end  func(y *daemon, j puller.Job)
			kind puller.ErrorKind
		}{
			{"cancel", func(y *daemon, j puller.Job) {
				if _, err := y.Cancel(j.ID); err != nil {
					y.Error(err)
				}
			}, puller.ErrCanceled},
			{"Close", func(y *daemon, j puller.Job) {
				if err := y.Close(y.Context()); err != nil {
					y.Error(err)
				}
			}, ""},
		} {
			t.Run(c.name+" in "+name, func(t *testing.T) {
				withDaemonOf(t, patient, nil, func(y *daemon) {
					y.engine.Script(good, script)
					j := y.always(good)
					y.is(j, puller.StateActive, puller.PhaseResolving)
					y.pulls(1)
					began := time.Now()
					c.end(y, j)
					if c.kind == "" {
						y.paused(j)
					} else {
						y.failed(j, c.kind)
					}
					if took := time.Since(began); took != 0 {
						y.Errorf("it took %s", took)
					}
					<-time.After(time.Hour)
					y.pulls(1)
				})
			})
		}
	}
}

func TestRetryTimeoutWhileWaiting(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Script(good, cut)
		timeout, retries := 10*time.Second, 20
		v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Timeout: puller.Duration(timeout), Retries: &retries}), puller.ErrTimeout)
		if took := v.FinishedAt.Sub(v.CreatedAt); took != timeout || !strings.Contains(v.Error.Message, "the last attempt failed: ") {
			y.Errorf("it ended after %s: %s", took, v.Error.Message)
		}
		n := y.engine.Counts().Pulls
		<-time.After(time.Hour)
		y.pulls(n)
	})
}

// A job whose time is up before the cool-down's end is not kept waiting, but
// told when to come back; nor is one that comes during the cool-down.
func TestRetryCoolDownTooLong(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Script(good, fails("toomanyrequests"))
		short := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Timeout: puller.Duration(10 * time.Second)}
		waits := y.always(good)
		for range 2 {
			v := y.failed(y.submit(short), puller.ErrRateLimited)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != 0 || v.Error.RetryAfterSeconds != 15 {
				y.Errorf("it ended after %s with %+v", took, v.Error)
			}
		}
		y.serve(good)
		y.came(waits, puller.SourcePulled)
	})
}

func TestRetryNotice(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Retrying in 2 seconds"))
			p.Fail("connection refused")
		}, served())
		j := y.always(good)
		y.came(j, puller.SourcePulled)
		got := notices(y.events(j))
		if len(got) != 2 || !strings.Contains(got[0], "tries layer "+layerA) ||
			!strings.HasPrefix(got[1], "attempt 1 failed (") || !strings.Contains(got[1], "the next one begins in ") {
			y.Errorf("the notices are %q", got)
		}
	})
}

func TestRetryManyJobs(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.hold(good)
		jobs := make([]puller.Job, 200)
		for i := range jobs {
			jobs[i] = y.submit(puller.PullRequest{Image: good, Policy: []puller.Policy{puller.PolicyMissing, puller.PolicyAlways}[i%2]})
		}
		y.is(jobs[199], puller.StateActive, puller.PhasePulling)
		y.engine.Kill()
		<-time.After(5 * time.Second)
		y.serve(good)
		y.engine.Revive()
		for _, j := range jobs {
			if v := y.came(j, puller.SourcePulled); v.Attempt != 2 {
				y.Fatalf("a job ended with attempt %d", v.Attempt)
			}
		}
		y.pulls(2)
		synctest.Wait()
		if c := y.engine.Counts(); c.Active != 0 || c.Open > 20 {
			y.Errorf("there are left: %+v", c)
		}
	})
}
