package jobs_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

// single is a Service with one slot.
var single = jobs.Options{Concurrency: 1, Policy: puller.PolicyMissing, Timeout: time.Hour}

func TestQueue(t *testing.T) {
	t.Run("goroutines", testQueueGoroutines)
	t.Run("slots", testQueueSlots)
	t.Run("order", testQueueOrder)
	t.Run("raise", testQueueRaise)
	t.Run("cancel", testQueueCancel)
	t.Run("turn kept over retry", testQueueTurnKeptOverRetry)
}

// Jobs that wait for a slot are entries in a queue: a goroutine for each would
// take four times the memory.
func testQueueGoroutines(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		release := d.hold(good)
		d.inState(d.pullAlways(good), puller.StateActive, puller.PhasePulling)
		before := runtime.NumGoroutine()
		var jobs []puller.Job
		for i := range 120 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			d.serve(image)
			jobs = append(jobs, d.pullAlways(image))
		}
		for i := range 60 { // before their turn
			if _, err := d.Cancel(jobs[2*i].ID); err != nil {
				d.Fatal(err)
			}
		}
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before+20 {
			d.Errorf("with %d jobs that wait there are %d goroutines, %d before", len(jobs)/2, n, before)
		}
		release()
		for i, j := range jobs {
			if i%2 == 1 {
				d.succeeded(j, puller.SourcePulled)
			}
		}
		d.wantPulls(1 + 60)
	})
}

func testQueueSlots(t *testing.T) {
	const slots = 3
	withDaemonOf(t, jobs.Options{Concurrency: slots, Policy: puller.PolicyMissing, Timeout: time.Hour}, nil, func(d *daemon) {
		var mu sync.Mutex
		running, most := 0, 0
		var jobs []puller.Job
		for i := range 40 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			served := enginetest.Serve(enginetest.NewImage(image, i+1))
			d.engine.Script(image, func(p *enginetest.Pull) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				p.Wait(time.Duration(i%7) * time.Second)
				mu.Lock()
				running--
				mu.Unlock()
				if i%5 == 0 {
					p.Fail("denied")
					return
				}
				served(p)
			})
			jobs = append(jobs, d.pullAlways(image))
			if i%6 == 1 {
				jobs = jobs[:len(jobs)-1]
				if _, err := d.Cancel(d.pullAlways(image).ID); err != nil {
					d.Fatal(err)
				}
			}
		}
		for _, j := range jobs {
			d.end(j)
		}
		if most != slots {
			d.Errorf("%d transfers ran at a time, not %d", most, slots)
		}
	})
}

// order runs jobs behind one that holds the only slot and returns the images in the
// order their pulls began. then may do something while they wait.
func order(t *testing.T, requests []puller.PullRequest, then func(d *daemon, jobs []puller.Job)) (began []string) {
	t.Helper()
	withDaemonOf(t, single, nil, func(d *daemon) {
		release := d.hold(good)
		blocker := d.pullAlways(good)
		d.inState(blocker, puller.StateActive, puller.PhasePulling)
		var jobs []puller.Job
		for _, r := range requests {
			name := r.Image
			r.Image, r.Policy = "registry.test/"+name+":v1", puller.PolicyAlways
			i := enginetest.NewImage(r.Image, 1)
			d.engine.Script(r.Image, func(p *enginetest.Pull) {
				began = append(began, name) // one at a time
				enginetest.Serve(i)(p)
			})
			jobs = append(jobs, d.submit(r))
		}
		for _, j := range jobs {
			d.inState(j, puller.StateQueued, "")
		}
		if then != nil {
			then(d, jobs)
		}
		release()
		for _, j := range jobs {
			d.end(j)
		}
	})
	return began
}

func testQueueOrder(t *testing.T) {
	began := order(t, []puller.PullRequest{
		{Image: "low1", Priority: puller.PriorityLow},
		{Image: "low2", Priority: puller.PriorityLow},
		{Image: "normal1"},
		{Image: "high1", Priority: puller.PriorityHigh},
		{Image: "normal2", Priority: puller.PriorityNormal},
		{Image: "high2", Priority: puller.PriorityHigh},
	}, nil)
	if want := []string{"high1", "high2", "normal1", "normal2", "low1", "low2"}; !slices.Equal(began, want) {
		t.Errorf("the pulls began in the order %q", began)
	}
}

func testQueueRaise(t *testing.T) {
	began := order(t, []puller.PullRequest{
		{Image: "a", Priority: puller.PriorityLow},
		{Image: "b"},
		{Image: "c", Priority: puller.PriorityLow},
		{Image: "c", Priority: puller.PriorityHigh},
		{Image: "c", Priority: puller.PriorityLow}, // takes nothing back
		{Image: "d", Priority: puller.PriorityHigh},
	}, nil)
	if want := []string{"c", "d", "b", "a"}; !slices.Equal(began, want) {
		t.Errorf("the pulls began in the order %q", began)
	}
}

func testQueueCancel(t *testing.T) {
	began := order(t, []puller.PullRequest{{Image: "a"}, {Image: "b"}, {Image: "b"}, {Image: "c"}, {Image: "d"}},
		func(d *daemon, jobs []puller.Job) {
			for _, i := range []int{0, 1, 3} { // b has another job
				if _, err := d.Cancel(jobs[i].ID); err != nil {
					d.Fatal(err)
				}
			}
		})
	if want := []string{"b", "d"}; !slices.Equal(began, want) {
		t.Errorf("the pulls began in the order %q", began)
	}
}

func testQueueTurnKeptOverRetry(t *testing.T) {
	o := single
	o.Retries = 3
	withDaemonOf(t, o, nil, func(d *daemon) {
		var began []string
		image := func(name string, scripts ...enginetest.Script) puller.Job {
			full := "registry.test/" + name + ":v1"
			for i, script := range scripts {
				scripts[i] = func(p *enginetest.Pull) {
					began = append(began, name) // one at a time
					script(p)
				}
			}
			d.attempts(full, scripts...)
			return d.pullAlways(full)
		}
		serve := func(name string, wait time.Duration) enginetest.Script {
			ends := enginetest.Serve(enginetest.NewImage("registry.test/"+name+":v1", 1))
			return func(p *enginetest.Pull) { p.Wait(wait); ends(p) }
		}
		jobs := []puller.Job{
			image("first", cut, serve("first", 0)),
			image("second", serve("second", 5*time.Second)), // longer than the wait
			image("third", serve("third", 0)),
		}
		for _, j := range jobs {
			d.succeeded(j, puller.SourcePulled)
		}
		if want := []string{"first", "second", "first", "third"}; !slices.Equal(began, want) {
			d.Errorf("the pulls began in the order %q", began)
		}
	})
}
