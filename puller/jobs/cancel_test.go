package jobs_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
)

func TestWaitAbandoned(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		j := d.pullAlways(good)
		ctx, cancel := context.WithTimeout(d.Context(), time.Minute)
		defer cancel()
		v, err := d.Wait(ctx, j.ID)
		if !errors.Is(err, context.DeadlineExceeded) || v.ID != j.ID || v.State != puller.StateActive {
			d.Errorf("Wait returned %v and the job as %s", err, v.State)
		}
		d.inState(j, puller.StateActive, puller.PhasePulling)
		release()
		d.succeeded(j, puller.SourcePulled)
		d.wantAborted(0)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	t.Run("in every phase", testCancelInEveryPhase)
	t.Run("last job ends transfer", testCancelLastJobEndsTransfer)
	t.Run("then submit", testCancelThenSubmit)
}

// Each phase of a job, with what holds it there and what the engine has to do
// with it.
func testCancelInEveryPhase(t *testing.T) {
	// blocked makes the inspects after the first n wait for their client.
	blocked := func(d *daemon, n int64) {
		var inspects atomic.Int64
		d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
			if inspects.Add(1) > n {
				<-gone
			}
			return 0, ""
		})
	}
	for _, c := range []struct {
		name    string
		policy  puller.Policy
		prepare func(d *daemon)
		state   puller.State
		phase   puller.Phase
		pulls   int
		aborted int
	}{
		{"checking", puller.PolicyMissing, func(d *daemon) { blocked(d, 0) }, puller.StateQueued, "", 0, 0},
		{"checking never", puller.PolicyNever, func(d *daemon) { blocked(d, 0) }, puller.StateQueued, "", 0, 0},
		{"queued", puller.PolicyAlways, func(d *daemon) {
			d.hold(other)
			d.pullAlways(other)
			synctest.Wait()
		}, puller.StateQueued, "", 1, 0},
		{"looking before the pull", puller.PolicyAlways, func(d *daemon) { blocked(d, 0) }, puller.StateQueued, "", 0, 0},
		{"resolving", puller.PolicyAlways, func(d *daemon) {
			d.engine.Script(good, func(p *enginetest.Pull) { <-p.Gone() })
		}, puller.StateActive, puller.PhaseResolving, 1, 1},
		{"pulling", puller.PolicyAlways, func(d *daemon) { d.hold(good) }, puller.StateActive, puller.PhasePulling, 1, 1},
		{"verifying", puller.PolicyAlways, func(d *daemon) {
			d.serve(good)
			blocked(d, 1)
		}, puller.StateActive, puller.PhaseVerifying, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(d *daemon) {
				c.prepare(d)
				j := d.submit(puller.PullRequest{Image: good, Policy: c.policy})
				d.inState(j, c.state, c.phase)
				v, err := d.Cancel(j.ID)
				if err != nil || v.State != puller.StateCanceled {
					d.Errorf("Cancel returned the job as %s, %v", v.State, err)
				}
				if v = d.failed(j, puller.ErrCanceled); v.Attempt != 0 && c.state == puller.StateQueued {
					d.Errorf("a job that was not begun is at attempt %d", v.Attempt)
				}
				d.wantPulls(c.pulls)
				if got := d.engine.Counts().Aborted; got != c.aborted {
					d.Errorf("%d of the engine's pulls were aborted, not %d", got, c.aborted)
				}
				got := numbered(d.events(j))
				if n := len(got); n < 3 || !slices.Equal(got[n-2:], []string{"state canceled", "result"}) {
					d.Errorf("the numbered events are %q", got)
				}
				_, err = d.Cancel(j.ID)
				if puller.KindOf(err) != puller.ErrConflict {
					d.Errorf("cancelled again: %v", err)
				}
				if again := d.settled(j); again.Error.Kind != puller.ErrCanceled || !again.FinishedAt.Equal(v.FinishedAt) {
					d.Errorf("the ended job became %+v", again)
				}
			})
		})
	}
}

func testCancelLastJobEndsTransfer(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		a, b := d.pullAlways(good), d.pullAlways(good)
		d.inState(b, puller.StateActive, puller.PhasePulling)
		if _, err := d.Cancel(a.ID); err != nil {
			d.Fatal(err)
		}
		v := d.failed(a, puller.ErrCanceled)
		if v.Progress == nil || v.Progress.Downloaded != 300 {
			d.Errorf("the canceled job's progress is %+v", v.Progress)
		}
		d.inState(b, puller.StateActive, puller.PhasePulling)
		release()
		d.succeeded(b, puller.SourcePulled)
		d.wantAborted(0)
		if again := d.settled(a); again.Progress.Downloaded != 300 {
			d.Errorf("the canceled job's progress became %+v", again.Progress)
		}

		d.hold(good)
		a, b = d.pullAlways(good), d.pullAlways(good)
		d.inState(b, puller.StateActive, puller.PhasePulling)
		for _, j := range []puller.Job{a, b} {
			if _, err := d.Cancel(j.ID); err != nil {
				d.Fatal(err)
			}
		}
		d.wantAborted(1)
	})
}

func TestUnknownJob(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		const id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
		_, show := d.Job(id)
		_, cancel := d.Cancel(id)
		_, wait := d.Wait(d.Context(), id)
		_, _, watch := d.Watch(id, nil)
		for call, err := range map[string]error{"Job": show, "Cancel": cancel, "Wait": wait, "Watch": watch} {
			if puller.KindOf(err) != puller.ErrNotFound {
				d.Errorf("%s: %v", call, err)
			}
		}
	})
}

// A transfer that is being aborted must not take a new job down with it.
func testCancelThenSubmit(t *testing.T) {
	late := &lateEngine{gate: make(chan struct{})}
	withDaemonOf(t, defaults, func(e engines.Engine) engines.Engine { late.Engine = e; return late }, func(d *daemon) {
		late.gate = make(chan struct{})
		d.hold(good)
		old := d.pullAlways(good)
		d.inState(old, puller.StateActive, puller.PhasePulling)
		if _, err := d.Cancel(old.ID); err != nil {
			d.Fatal(err)
		}
		release := d.hold(good)
		jobs := []puller.Job{d.pullAlways(good), d.pullAlways(good)}
		d.inState(jobs[0], puller.StateActive, puller.PhasePulling)
		d.wantPulls(2)
		// The old transfer ends at last, and leaves the fresh one where it is.
		close(late.gate)
		synctest.Wait()
		jobs = append(jobs, d.pullAlways(good))
		d.wantPulls(2)
		release()
		for _, j := range jobs {
			d.succeeded(j, puller.SourcePulled)
		}
		d.wantPulls(2)
	})
}

func TestTimeoutOfOneJob(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		submit := func(seconds int) puller.Job {
			return d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Timeout: puller.Duration(time.Duration(seconds) * time.Second)})
		}
		short, long := submit(10), submit(30)
		check := func(j puller.Job, after time.Duration) {
			v := d.failed(j, puller.ErrTimeout)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != after {
				d.Errorf("the timeout came after %s, not %s", took, after)
			}
		}
		check(short, 10*time.Second)
		d.inState(long, puller.StateActive, puller.PhasePulling)
		if n := d.engine.Counts().Aborted; n != 0 {
			d.Errorf("%d pulls were aborted with a job left", n)
		}
		check(long, 30*time.Second)
		d.wantAborted(1)
	})
}

// The error of a timeout says how far the job came.
func TestTimeoutTellsProgress(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Pulling fs layer"))
			p.Line(line(layerB, "Already exists"))
			p.Line(line(layerA, "Downloading", 1_500_000, 4_000_000))
			<-p.Gone()
		})
		d.engine.Script(other, silence)
		for image, want := range map[string]string{
			good:  ": timeout: not done within 10s; it was pulling, with 1.5 MB of 4.0 MB downloaded and 1 of 2 layers done; set a longer timeout",
			other: ": timeout: not done within 10s; it was resolving; set a longer timeout",
		} {
			v := d.failed(d.submit(puller.PullRequest{Image: image, Policy: puller.PolicyAlways, Timeout: puller.Duration(10 * time.Second)}), puller.ErrTimeout)
			if !strings.HasSuffix(v.Error.Message, want) {
				d.Errorf("%q does not end with %q", v.Error.Message, want)
			}
		}
	})
}

func TestTimeoutWhileQueued(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		policy  puller.Policy
		prepare func(d *daemon)
	}{
		{"for a slot", puller.PolicyAlways, func(d *daemon) {
			d.hold(other)
			d.pullAlways(other)
			synctest.Wait()
		}},
		{"for the check", puller.PolicyMissing, func(d *daemon) {
			d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
				<-gone
				return http.StatusInternalServerError, "gone"
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(d *daemon) {
				c.prepare(d)
				v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: c.policy, Timeout: puller.Duration(10 * time.Second)}), puller.ErrTimeout)
				if took := v.FinishedAt.Sub(v.CreatedAt); took < 10*time.Second || took > 11*time.Second {
					d.Errorf("the timeout came after %s", took)
				}
			})
		})
	}
}
