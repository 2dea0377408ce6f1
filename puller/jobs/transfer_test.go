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

func TestTransferManyJobs(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyAlways, puller.PolicyMissing} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemon(t, func(y *daemon) {
				release := y.hold(good)
				jobs := make([]puller.Job, 200)
				for i := range jobs {
					jobs[i] = y.submit(puller.PullRequest{Image: good, Policy: policy})
				}
				y.pulls(1)
				release()
				first := y.came(jobs[0], puller.SourcePulled)
				for _, j := range jobs {
					if v := y.came(j, puller.SourcePulled); *v.Result != *first.Result {
						y.Fatalf("the results differ: %+v and %+v", v.Result, first.Result)
					}
				}
				y.pulls(1)
				y.aborted(0)
			})
		})
	}
}

func TestTransferKey(t *testing.T) {
	withDaemonOf(t, jobs.Options{Concurrency: 10, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(y *daemon) {
		release := y.hold("alpine")
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
					y.submit(r)
				}
			}
			y.pulls(c.pulls)
			if got := y.engine.LastAuth(); r.Platform == "" && got != r.Credentials.HeaderFor("docker.io/library/alpine:latest") {
				y.Errorf("the engine was called with credentials %q, not the job's", got)
			}
		}
		release()
		page, _, err := y.Jobs(puller.Filter{})
		if err != nil || len(page) != 24 {
			y.Fatalf("%d jobs, %v", len(page), err)
		}
		for _, j := range page {
			if v := y.end(j); v.State != puller.StateSucceeded {
				y.Errorf("a job is %s: %+v", v.State, v.Error)
			}
		}
		y.pulls(5) // linux/amd64/v1 is another form of linux/amd64
	})
}

// What is being pulled because it was missing is not looked for by each who wants
// it; what is pulled though it is there is.
func TestTransferJoinAtOnce(t *testing.T) {
	for _, there := range []bool{false, true} {
		withDaemon(t, func(y *daemon) {
			if there {
				y.engine.Tag(good, enginetest.NewImage(good, 5))
			}
			release := y.hold(good)
			first := y.always(good)
			y.is(first, puller.StateActive, puller.PhasePulling)
			inspects := y.engine.Counts().Inspects
			for range 20 {
				j := y.submit(puller.PullRequest{Image: good})
				if there && (j.State != puller.StateSucceeded || j.Result.Source != puller.SourcePresent) {
					y.Errorf("what is there is %s", j.State)
				} else if !there {
					y.is(j, puller.StateActive, puller.PhasePulling)
				}
				never := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
				if !there {
					y.failed(never, puller.ErrNotFound)
				}
			}
			if n, want := y.engine.Counts().Inspects-inspects, map[bool]int{false: 20, true: 40}[there]; n != want {
				y.Errorf("present %v: the engine was asked %d times, want %d", there, n, want)
			}
			release()
			y.end(first)
		})
	}
}

func TestTransferJoinMidway(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		release := y.hold(good)
		first := y.always(good)
		y.is(first, puller.StateActive, puller.PhasePulling)

		second := y.always(good)
		if second.State != puller.StateActive || second.Phase != puller.PhasePulling || second.Attempt != 1 || second.Progress == nil || second.Progress.Downloaded != 300 {
			y.Errorf("the job that joined is at once %+v, %+v", second, second.Progress)
		}
		frames, _, err := y.Watch(second.ID, nil)
		if err != nil {
			y.Fatal(err)
		}
		var types []string
		for _, f := range frames {
			types = append(types, f.Type)
		}
		slices.Sort(types)
		if !slices.Equal(types, []string{"layer", "state"}) {
			y.Errorf("its reader is at once told %q", types)
		}
		missing := y.submit(puller.PullRequest{Image: good})
		y.is(missing, puller.StateActive, puller.PhasePulling)

		release()
		result := y.came(first, puller.SourcePulled).Result
		for _, j := range []puller.Job{second, missing} {
			if v := y.came(j, puller.SourcePulled); *v.Result != *result {
				y.Errorf("the results differ: %+v and %+v", v.Result, result)
			}
		}
		want := []string{"state queued", "state active/pulling", "state active/verifying", "state succeeded", "result"}
		if got := numbered(y.events(second)); !slices.Equal(got, want) {
			y.Errorf("the events of the job that joined are %q", got)
		}
		y.pulls(1)
	})
}

func TestTransferAfterEnd(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.serve(good)
		y.came(y.always(good), puller.SourcePulled)
		y.came(y.always(good), puller.SourceUpToDate)
		y.pulls(2)
		y.engine.Script(good, func(p *enginetest.Pull) { p.Fail("unauthorized") })
		y.failed(y.always(good), puller.ErrDenied)
		y.serve(good)
		y.came(y.always(good), puller.SourceUpToDate)
		y.pulls(4)
	})
}

func TestTransferImageCameMeanwhile(t *testing.T) {
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
			withDaemonOf(t, jobs.Options{Concurrency: 1, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(y *daemon) {
				release := y.hold(other)
				y.always(other)
				jobs := []puller.Job{y.submit(puller.PullRequest{Image: good}), y.submit(puller.PullRequest{Image: good})}
				synctest.Wait()
				if c.joins {
					jobs = append(jobs, y.always(good))
				}
				for _, j := range jobs {
					y.is(j, puller.StateQueued, "")
				}
				y.engine.Tag(good, y.serve(good))
				release()
				y.came(jobs[0], puller.SourcePresent)
				y.came(jobs[1], puller.SourcePresent)
				y.came(jobs[len(jobs)-1], c.source)
				y.pulls(c.pulls)
			})
		})
	}
}

func TestPresentAtOnce(t *testing.T) {
	withDaemonOf(t, jobs.Options{Concurrency: 1, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(y *daemon) {
		release := y.hold(good)
		y.engine.Tag(good, enginetest.NewImage(good, 1))
		y.engine.Tag(other, enginetest.NewImage(other, 2))
		slow := y.always(good)
		began := time.Now()
		// While a transfer of the same image runs, and with no slot free.
		for _, image := range []string{good, other} {
			for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNever} {
				y.came(y.submit(puller.PullRequest{Image: image, Policy: policy}), puller.SourcePresent)
			}
		}
		if took := time.Since(began); took != 0 {
			y.Errorf("the answers took %s", took)
		}
		y.is(slow, puller.StateActive, puller.PhasePulling)
		y.pulls(1)
		release()
		y.came(slow, puller.SourceUpToDate)
	})
}

// Whatever callers do at once, every job ends, once, and tells so last.
func TestManyCallersAtOnce(t *testing.T) {
	withDaemonOf(t, jobs.Options{Concurrency: 2, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(y *daemon) {
		const images = 4
		for i := range images {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			served := enginetest.Serve(enginetest.NewImage(image, i+1))
			y.engine.Script(image, func(p *enginetest.Pull) {
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
				j := y.submit(r)
				<-time.After(time.Duration(i%11) * 300 * time.Millisecond)
				if i%2 == 0 {
					y.Cancel(j.ID)
				}
				v := y.end(j)
				events := y.events(j)
				if last := events[len(events)-1]; !v.State.Ended() || last.Type != "result" || last.Result.State != v.State {
					y.Errorf("the job is %s, its last event %+v", v.State, last)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if c := y.engine.Counts(); c.Active != 0 {
			y.Errorf("%d pulls go on", c.Active)
		}
		for _, state := range []puller.State{puller.StateQueued, puller.StateActive} {
			if page, _, _ := y.Jobs(puller.Filter{State: state}); len(page) != 0 {
				y.Errorf("%d jobs are still %s", len(page), state)
			}
		}
	})
}
