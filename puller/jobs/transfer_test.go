package jobs_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

func TestTransfer(t *testing.T) {
	t.Parallel()
	t.Run("many jobs", testTransferManyJobs)
	t.Run("key", testTransferKey)
	t.Run("join at once", testTransferJoinAtOnce)
	t.Run("join midway", testTransferJoinMidway)
	t.Run("after end", testTransferAfterEnd)
	t.Run("image came meanwhile", testTransferImageCameMeanwhile)
}

func testTransferManyJobs(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyAlways, puller.PolicyMissing} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				release := d.hold(good)
				jobs := make([]puller.Job, 200)
				for i := range jobs {
					jobs[i] = d.submit(puller.PullRequest{Image: good, Policy: policy})
				}
				d.wantPulls(1)
				release()
				first := d.succeeded(jobs[0], puller.SourcePulled)
				for _, j := range jobs {
					if v := d.succeeded(j, puller.SourcePulled); *v.Result != *first.Result {
						d.Fatalf("the results differ: %+v and %+v", v.Result, first.Result)
					}
				}
				d.wantPulls(1)
				d.wantAborted(0)
			})
		})
	}
}

func testTransferKey(t *testing.T) {
	withDaemonOf(t, jobs.Options{Concurrency: 10, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(d *daemon) {
		release := d.hold("alpine")
		// Those of another platform than the first wait for it to end: an engine
		// with a graph driver has one image under the name.
		for _, c := range []struct {
			r     puller.PullRequest
			pulls int
		}{
			{puller.PullRequest{}, 1},
			{puller.PullRequest{Credentials: credentials(t, "one")}, 2},
			{puller.PullRequest{Credentials: credentials(t, "another")}, 3},
			{puller.PullRequest{Platform: "linux/amd64"}, 3},
			{puller.PullRequest{Platform: "linux/amd64/v1"}, 3}, // the same platform
			{puller.PullRequest{Platform: "linux/amd64", Credentials: credentials(t, "one")}, 3},
		} {
			r := c.r
			// Other forms of one name are the same; what else differs counts for nothing.
			for _, image := range []string{"alpine", "docker.io/library/alpine:latest"} {
				for _, priority := range []puller.Priority{puller.PriorityHigh, puller.PriorityLow} {
					r.Image, r.Policy, r.Priority = image, puller.PolicyAlways, priority
					d.submit(r)
				}
			}
			d.wantPulls(c.pulls)
			if got := d.engine.LastAuth(); r.Platform == "" && got != r.Credentials.HeaderFor("docker.io/library/alpine:latest") {
				d.Errorf("the engine was called with credentials %q, not the job's", got)
			}
		}
		release()
		page, _, err := d.Jobs(puller.Filter{})
		if err != nil || len(page) != 24 {
			d.Fatalf("%d jobs, %v", len(page), err)
		}
		for _, j := range page {
			if v := d.end(j); v.State != puller.StateSucceeded {
				d.Errorf("a job is %s: %+v", v.State, v.Error)
			}
		}
		d.wantPulls(5) // linux/amd64/v1 is another form of linux/amd64
	})
}

// A job that joins the transfer of a missing image does not ask the engine for it. A job
// that joins the transfer of a present one does.
func testTransferJoinAtOnce(t *testing.T) {
	for _, there := range []bool{false, true} {
		withDaemon(t, func(d *daemon) {
			if there {
				d.engine.Tag(good, enginetest.NewImage(good, 5))
			}
			release := d.hold(good)
			first := d.pullAlways(good)
			d.inState(first, puller.StateActive, puller.PhasePulling)
			inspects := d.engine.Counts().Inspects
			for range 20 {
				j := d.submit(puller.PullRequest{Image: good})
				if there && (j.State != puller.StateSucceeded || j.Result.Source != puller.SourcePresent) {
					d.Errorf("what is there is %s", j.State)
				} else if !there {
					d.inState(j, puller.StateActive, puller.PhasePulling)
				}
				never := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
				if !there {
					d.failed(never, puller.ErrNotFound)
				}
			}
			if n, want := d.engine.Counts().Inspects-inspects, map[bool]int{false: 20, true: 40}[there]; n != want {
				d.Errorf("present %v: the engine was asked %d times, want %d", there, n, want)
			}
			release()
			d.end(first)
		})
	}
}

func testTransferJoinMidway(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		first := d.pullAlways(good)
		d.inState(first, puller.StateActive, puller.PhasePulling)

		second := d.pullAlways(good)
		if second.State != puller.StateActive || second.Phase != puller.PhasePulling || second.Attempt != 1 || second.Progress == nil || second.Progress.Downloaded != 300 {
			d.Errorf("the job that joined is at once %+v, %+v", second, second.Progress)
		}
		frames, _, err := d.Watch(second.ID, nil)
		if err != nil {
			d.Fatal(err)
		}
		var types []string
		for _, f := range frames {
			types = append(types, f.Type)
		}
		slices.Sort(types)
		if !slices.Equal(types, []string{"layer", "state"}) {
			d.Errorf("its reader is at once told %q", types)
		}
		missing := d.submit(puller.PullRequest{Image: good})
		d.inState(missing, puller.StateActive, puller.PhasePulling)

		release()
		result := d.succeeded(first, puller.SourcePulled).Result
		for _, j := range []puller.Job{second, missing} {
			if v := d.succeeded(j, puller.SourcePulled); *v.Result != *result {
				d.Errorf("the results differ: %+v and %+v", v.Result, result)
			}
		}
		want := []string{"state queued", "state active/pulling", "state active/verifying", "state succeeded", "result"}
		if got := numbered(d.events(second)); !slices.Equal(got, want) {
			d.Errorf("the events of the job that joined are %q", got)
		}
		d.wantPulls(1)
	})
}

func testTransferAfterEnd(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		d.succeeded(d.pullAlways(good), puller.SourcePulled)
		d.succeeded(d.pullAlways(good), puller.SourceUpToDate)
		d.wantPulls(2)
		d.engine.Script(good, func(p *enginetest.Pull) { p.Fail("unauthorized") })
		d.failed(d.pullAlways(good), puller.ErrDenied)
		d.serve(good)
		d.succeeded(d.pullAlways(good), puller.SourceUpToDate)
		d.wantPulls(4)
	})
}

func testTransferImageCameMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name   string
		joins  bool          // a job that asks in any case joins them
		source puller.Source // of the last job
		pulls  int
	}{
		{"missing", false, puller.SourcePresent, 1},
		{"missing and always", true, puller.SourceUpToDate, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, jobs.Options{Concurrency: 1, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(d *daemon) {
				release := d.hold(other)
				d.pullAlways(other)
				jobs := []puller.Job{d.submit(puller.PullRequest{Image: good}), d.submit(puller.PullRequest{Image: good})}
				synctest.Wait()
				if c.joins {
					jobs = append(jobs, d.pullAlways(good))
				}
				for _, j := range jobs {
					d.inState(j, puller.StateQueued, "")
				}
				d.engine.Tag(good, d.serve(good))
				release()
				d.succeeded(jobs[0], puller.SourcePresent)
				d.succeeded(jobs[1], puller.SourcePresent)
				d.succeeded(jobs[len(jobs)-1], c.source)
				d.wantPulls(c.pulls)
			})
		})
	}
}

func TestPresentAtOnce(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, jobs.Options{Concurrency: 1, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(d *daemon) {
		release := d.hold(good)
		d.engine.Tag(good, enginetest.NewImage(good, 1))
		d.engine.Tag(other, enginetest.NewImage(other, 2))
		slow := d.pullAlways(good)
		began := time.Now()
		// While a transfer of the same image runs, and with no slot free.
		for _, image := range []string{good, other} {
			for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNever} {
				d.succeeded(d.submit(puller.PullRequest{Image: image, Policy: policy}), puller.SourcePresent)
			}
		}
		if took := time.Since(began); took != 0 {
			d.Errorf("the answers took %s", took)
		}
		d.inState(slow, puller.StateActive, puller.PhasePulling)
		d.wantPulls(1)
		release()
		d.succeeded(slow, puller.SourceUpToDate)
	})
}

// Whatever callers do at once, every job ends, once, and tells so last.
func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, jobs.Options{Concurrency: 2, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(d *daemon) {
		const images = 4
		for i := range images {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			served := enginetest.Serve(enginetest.NewImage(image, i+1))
			d.engine.Script(image, func(p *enginetest.Pull) {
				if p.Wait(time.Second) {
					served(p)
				}
			})
		}
		var callers sync.WaitGroup
		for i := range 200 {
			callers.Go(func() {
				r := puller.PullRequest{
					Image:    fmt.Sprintf("registry.test/image%d:v1", i%images),
					Policy:   []puller.Policy{puller.PolicyAlways, puller.PolicyMissing, puller.PolicyNever}[i%3],
					Priority: []puller.Priority{puller.PriorityHigh, puller.PriorityNormal, puller.PriorityLow}[i/3%3],
					Timeout:  puller.Duration(time.Duration(1+i%7) * 1500 * time.Millisecond),
				}
				j := d.submit(r)
				<-time.After(time.Duration(i%11) * 300 * time.Millisecond)
				if i%2 == 0 {
					d.Cancel(j.ID)
				}
				v := d.end(j)
				events := d.events(j)
				if last := events[len(events)-1]; !v.State.Ended() || last.Type != "result" || last.Result.State != v.State {
					d.Errorf("the job is %s, its last event %+v", v.State, last)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if c := d.engine.Counts(); c.Active != 0 {
			d.Errorf("%d pulls go on", c.Active)
		}
		for _, state := range []puller.State{puller.StateQueued, puller.StateActive} {
			if page, _, _ := d.Jobs(puller.Filter{State: state}); len(page) != 0 {
				d.Errorf("%d jobs are still %s", len(page), state)
			}
		}
	})
}
