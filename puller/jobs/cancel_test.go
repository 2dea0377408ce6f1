package jobs_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestWaitAbandoned(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		release := y.hold(good)
		j := y.always(good)
		ctx, cancel := context.WithTimeout(y.Context(), time.Minute)
		defer cancel()
		v, err := y.Wait(ctx, j.ID)
		if !errors.Is(err, context.DeadlineExceeded) || v.ID != j.ID || v.State != puller.StateActive {
			y.Errorf("Wait returned %v and the job as %s", err, v.State)
		}
		y.is(j, puller.StateActive, puller.PhasePulling)
		release()
		y.came(j, puller.SourcePulled)
		y.aborted(0)
	})
}

// Each phase of a job, with what holds it there and what the engine has to do
// with it.
func TestCancelInEveryPhase(t *testing.T) {
	// blocked makes the inspects after the first n wait for their client.
	blocked := func(y *daemon, n int64) {
		var inspects atomic.Int64
		y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
			if inspects.Add(1) > n {
				<-gone
			}
			return 0, ""
		})
	}
	for _, c := range []struct {
		name    string
		policy  puller.Policy
		prepare func(y *daemon)
		state   puller.State
		phase   puller.Phase
		pulls   int
		aborted int
	}{
		{"checking", puller.PolicyMissing, func(y *daemon) { blocked(y, 0) }, puller.StateQueued, "", 0, 0},
		{"checking never", puller.PolicyNever, func(y *daemon) { blocked(y, 0) }, puller.StateQueued, "", 0, 0},
		{"queued", puller.PolicyAlways, func(y *daemon) {
			y.hold(other)
			y.always(other)
			synctest.Wait()
		}, puller.StateQueued, "", 1, 0},
		{"looking before the pull", puller.PolicyAlways, func(y *daemon) { blocked(y, 0) }, puller.StateQueued, "", 0, 0},
		{"resolving", puller.PolicyAlways, func(y *daemon) {
			y.engine.Script(good, func(p *enginetest.Pull) { <-p.Gone() })
		}, puller.StateActive, puller.PhaseResolving, 1, 1},
		{"pulling", puller.PolicyAlways, func(y *daemon) { y.hold(good) }, puller.StateActive, puller.PhasePulling, 1, 1},
		{"verifying", puller.PolicyAlways, func(y *daemon) {
			y.serve(good)
			blocked(y, 1)
		}, puller.StateActive, puller.PhaseVerifying, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(y *daemon) {
				c.prepare(y)
				j := y.submit(puller.PullRequest{Image: good, Policy: c.policy})
				y.is(j, c.state, c.phase)
				v, err := y.Cancel(j.ID)
				if err != nil || v.State != puller.StateCanceled {
					y.Errorf("Cancel returned the job as %s, %v", v.State, err)
				}
				if v = y.failed(j, puller.ErrCanceled); v.Attempt != 0 && c.state == puller.StateQueued {
					y.Errorf("a job that was not begun is at attempt %d", v.Attempt)
				}
				y.pulls(c.pulls)
				if got := y.engine.Counts().Aborted; got != c.aborted {
					y.Errorf("%d of the engine's pulls were aborted, not %d", got, c.aborted)
				}
				got := numbered(y.events(j))
				if n := len(got); n < 3 || !slices.Equal(got[n-2:], []string{"state canceled", "result"}) {
					y.Errorf("the numbered events are %q", got)
				}
				_, err = y.Cancel(j.ID)
				if puller.KindOf(err) != puller.ErrConflict {
					y.Errorf("cancelled again: %v", err)
				}
				if again := y.now(j); again.Error.Kind != puller.ErrCanceled || !again.FinishedAt.Equal(v.FinishedAt) {
					y.Errorf("the ended job became %+v", again)
				}
			})
		})
	}
}

func TestCancelLastJobEndsTransfer(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		release := y.hold(good)
		a, b := y.always(good), y.always(good)
		y.is(b, puller.StateActive, puller.PhasePulling)
		if _, err := y.Cancel(a.ID); err != nil {
			y.Fatal(err)
		}
		v := y.failed(a, puller.ErrCanceled)
		if v.Progress == nil || v.Progress.Downloaded != 300 {
			y.Errorf("the canceled job's progress is %+v", v.Progress)
		}
		y.is(b, puller.StateActive, puller.PhasePulling)
		release()
		y.came(b, puller.SourcePulled)
		y.aborted(0)
		if again := y.now(a); again.Progress.Downloaded != 300 {
			y.Errorf("the canceled job's progress became %+v", again.Progress)
		}

		y.hold(good)
		a, b = y.always(good), y.always(good)
		y.is(b, puller.StateActive, puller.PhasePulling)
		for _, j := range []puller.Job{a, b} {
			if _, err := y.Cancel(j.ID); err != nil {
				y.Fatal(err)
			}
		}
		y.aborted(1)
	})
}

func TestUnknownJob(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		const id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
		_, show := y.Job(id)
		_, cancel := y.Cancel(id)
		_, wait := y.Wait(y.Context(), id)
		_, _, watch := y.Watch(id, nil)
		for call, err := range map[string]error{"Job": show, "Cancel": cancel, "Wait": wait, "Watch": watch} {
			if puller.KindOf(err) != puller.ErrNotFound {
				y.Errorf("%s: %v", call, err)
			}
		}
	})
}

// A transfer that is being aborted must not take a new job down with it.
func TestCancelThenSubmit(t *testing.T) {
	late := &lateEngine{gate: make(chan struct{})}
	withDaemonOf(t, defaults, func(e puller.Engine) puller.Engine { late.Engine = e; return late }, func(y *daemon) {
		late.gate = make(chan struct{})
		y.hold(good)
		old := y.always(good)
		y.is(old, puller.StateActive, puller.PhasePulling)
		if _, err := y.Cancel(old.ID); err != nil {
			y.Fatal(err)
		}
		release := y.hold(good)
		jobs := []puller.Job{y.always(good), y.always(good)}
		y.is(jobs[0], puller.StateActive, puller.PhasePulling)
		y.pulls(2)
		// The old transfer ends at last, and leaves the fresh one where it is.
		close(late.gate)
		synctest.Wait()
		jobs = append(jobs, y.always(good))
		y.pulls(2)
		release()
		for _, j := range jobs {
			y.came(j, puller.SourcePulled)
		}
		y.pulls(2)
	})
}

func TestTimeoutOfOneJob(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.hold(good)
		submit := func(seconds int) puller.Job {
			return y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Timeout: puller.Duration(time.Duration(seconds) * time.Second)})
		}
		short, long := submit(10), submit(30)
		check := func(j puller.Job, after time.Duration) {
			v := y.failed(j, puller.ErrTimeout)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != after {
				y.Errorf("the timeout came after %s, not %s", took, after)
			}
		}
		check(short, 10*time.Second)
		y.is(long, puller.StateActive, puller.PhasePulling)
		if n := y.engine.Counts().Aborted; n != 0 {
			y.Errorf("%d pulls were aborted with a job left", n)
		}
		check(long, 30*time.Second)
		y.aborted(1)
	})
}

func TestTimeoutWhileQueued(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  puller.Policy
		prepare func(y *daemon)
	}{
		{"for a slot", puller.PolicyAlways, func(y *daemon) {
			y.hold(other)
			y.always(other)
			synctest.Wait()
		}},
		{"for the check", puller.PolicyMissing, func(y *daemon) {
			y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
				<-gone
				return http.StatusInternalServerError, "gone"
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(y *daemon) {
				c.prepare(y)
				v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: c.policy, Timeout: puller.Duration(10 * time.Second)}), puller.ErrTimeout)
				if took := v.FinishedAt.Sub(v.CreatedAt); took < 10*time.Second || took > 11*time.Second {
					y.Errorf("the timeout came after %s", took)
				}
			})
		})
	}
}
