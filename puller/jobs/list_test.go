package jobs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestList(t *testing.T) {
	t.Parallel()
	t.Run("newest first", testListNewestFirst)
	t.Run("bad filter", testListBadFilter)
	t.Run("forgets ended only", testListForgetsEndedOnly)
}

func testListNewestFirst(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		release := d.hold(good)
		d.serve(other)
		d.engine.Tag("registry.test/there:v1", enginetest.NewImage("registry.test/there:v1", 3))
		done := d.submit(puller.PullRequest{Image: "registry.test/there:v1", Policy: puller.PolicyNever})
		d.succeeded(done, puller.SourcePresent)
		lost := d.submit(puller.PullRequest{Image: "alpine", Policy: puller.PolicyNever})
		d.failed(lost, puller.ErrNotFound)
		active := d.pullAlways(good)
		d.inState(active, puller.StateActive, puller.PhasePulling)
		queued := d.pullAlways(other)
		gone := d.pullAlways(other)
		if _, err := d.Cancel(gone.ID); err != nil {
			d.Fatal(err)
		}
		all := []puller.Job{gone, queued, active, lost, done}
		for _, c := range []struct {
			name   string
			filter puller.Filter
			want   []puller.Job
		}{
			{"all", puller.Filter{}, all},
			{"a kind", puller.Filter{Kind: "pull"}, all},
			{"queued", puller.Filter{State: puller.StateQueued}, []puller.Job{queued}},
			{"active", puller.Filter{State: puller.StateActive}, []puller.Job{active}},
			{"succeeded", puller.Filter{State: puller.StateSucceeded}, []puller.Job{done}},
			{"failed", puller.Filter{State: puller.StateFailed}, []puller.Job{lost}},
			{"canceled", puller.Filter{State: puller.StateCanceled}, []puller.Job{gone}},
			{"an image", puller.Filter{Image: other}, []puller.Job{gone, queued}},
			{"an image in short form", puller.Filter{Image: "alpine"}, []puller.Job{lost}},
			{"an image nobody asked for", puller.Filter{Image: "busybox"}, nil},
			{"an image and a state", puller.Filter{Image: other, State: puller.StateQueued}, []puller.Job{queued}},
		} {
			for _, limit := range []int{0, 1, 2, len(c.want), 1000} {
				c.filter.Limit, c.filter.Cursor = limit, ""
				var got, want []string
				for pages := 0; pages == 0 || c.filter.Cursor != ""; pages++ {
					page, next, err := d.Jobs(c.filter)
					if err != nil || page == nil || limit > 0 && len(page) > limit || pages > 5 {
						d.Fatalf("%s, %d a page: %d jobs, %v", c.name, limit, len(page), err)
					}
					for _, j := range page {
						got = append(got, j.ID)
					}
					c.filter.Cursor = next
				}
				for _, j := range c.want {
					want = append(want, j.ID)
				}
				if !slices.Equal(got, want) {
					d.Errorf("%s, %d a page: %q, not %q", c.name, limit, got, want)
				}
			}
		}
		if page, _, _ := d.Jobs(puller.Filter{State: puller.StateActive}); page[0].Progress == nil || page[0].Progress.Downloaded != 300 {
			d.Errorf("the listed job's progress is %+v", page[0].Progress)
		}
		release()
		d.succeeded(queued, puller.SourcePulled)
	})
}

func testListBadFilter(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		for _, c := range []struct {
			filter puller.Filter
			field  string
		}{
			{puller.Filter{Limit: -1}, "limit"},
			{puller.Filter{Limit: 1001}, "limit"},
			{puller.Filter{State: "running"}, "state"},
			{puller.Filter{Kind: "push"}, "kind"},
			{puller.Filter{Image: "UPPER"}, "image"},
		} {
			_, _, err := d.Jobs(c.filter)
			if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), c.field+": ") {
				d.Errorf("%+v: %v", c.filter, err)
			}
		}
	})
}

func testListForgetsEndedOnly(t *testing.T) {
	o := single
	o.KeepJobs = 500
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(other, d.serve(other))
		end := func(n int) (jobs []puller.Job) {
			for range n {
				j := d.submit(puller.PullRequest{Image: other, Policy: puller.PolicyNever})
				d.end(j)
				jobs = append(jobs, j)
			}
			return jobs
		}
		first := end(60)
		release := d.hold(good)
		active := d.pullAlways(good)
		d.inState(active, puller.StateActive, puller.PhasePulling)
		queued := d.pullAlways(other)
		page, cursor, err := d.Jobs(puller.Filter{Limit: 32})
		if err != nil || len(page) != 32 || page[0].ID != queued.ID {
			d.Fatalf("%d jobs, %v", len(page), err)
		}
		later := end(1050)

		// The cursor's own job is forgotten; it marks its place all the same.
		if _, err := d.Job(cursor); puller.KindOf(err) != puller.ErrNotFound {
			d.Fatalf("the oldest jobs are still there: %v", err)
		}
		page, next, err := d.Jobs(puller.Filter{Cursor: cursor, Limit: 1000})
		if err != nil || next != "" {
			d.Errorf("after the cursor: %d jobs, next %q, %v", len(page), next, err)
		}
		for _, j := range page {
			if j.ID >= cursor {
				d.Errorf("after the cursor comes %s, which was listed before", j.ID)
			}
		}
		count := 0
		for _, j := range append(first, later...) {
			if _, err := d.Job(j.ID); err == nil {
				count++
			}
		}
		if _, err := d.Job(later[0].ID); puller.KindOf(err) != puller.ErrNotFound {
			d.Fatalf("no job younger than the active ones was forgotten: %v", err)
		}
		if count < 500 || count >= 1500 {
			d.Errorf("%d ended jobs are kept", count)
		}
		if _, err := d.Job(later[len(later)-1].ID); err != nil {
			d.Errorf("the newest is forgotten: %v", err)
		}
		d.inState(active, puller.StateActive, puller.PhasePulling)
		d.inState(queued, puller.StateQueued, "")
		release()
		d.succeeded(active, puller.SourcePulled)
		d.succeeded(queued, puller.SourceUpToDate)
	})
}
