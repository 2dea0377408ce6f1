package jobs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestListNewestFirst(t *testing.T) {
	withDaemonOf(t, single, nil, func(y *daemon) {
		release := y.hold(good)
		y.serve(other)
		y.engine.Tag("registry.test/there:v1", enginetest.NewImage("registry.test/there:v1", 3))
		done := y.submit(puller.PullRequest{Image: "registry.test/there:v1", Policy: puller.PolicyNever})
		y.came(done, puller.SourcePresent)
		lost := y.submit(puller.PullRequest{Image: "alpine", Policy: puller.PolicyNever})
		y.failed(lost, puller.ErrNotFound)
		active := y.always(good)
		y.is(active, puller.StateActive, puller.PhasePulling)
		queued := y.always(other)
		gone := y.always(other)
		if _, err := y.Cancel(gone.ID); err != nil {
			y.Fatal(err)
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
					page, next, err := y.Jobs(c.filter)
					if err != nil || page == nil || limit > 0 && len(page) > limit || pages > 5 {
						y.Fatalf("%s, %d a page: %d jobs, %v", c.name, limit, len(page), err)
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
					y.Errorf("%s, %d a page: %q, not %q", c.name, limit, got, want)
				}
			}
		}
		if page, _, _ := y.Jobs(puller.Filter{State: puller.StateActive}); page[0].Progress == nil || page[0].Progress.Downloaded != 300 {
			y.Errorf("the listed job's progress is %+v", page[0].Progress)
		}
		release()
		y.came(queued, puller.SourcePulled)
	})
}

func TestListBadFilter(t *testing.T) {
	withDaemon(t, func(y *daemon) {
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
			_, _, err := y.Jobs(c.filter)
			if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), c.field+": ") {
				y.Errorf("%+v: %v", c.filter, err)
			}
		}
	})
}

func TestListForgetsEndedOnly(t *testing.T) {
	o := single
	o.KeepJobs = 500
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(other, y.serve(other))
		end := func(n int) (jobs []puller.Job) {
			for range n {
				j := y.submit(puller.PullRequest{Image: other, Policy: puller.PolicyNever})
				y.end(j)
				jobs = append(jobs, j)
			}
			return jobs
		}
		first := end(60)
		release := y.hold(good)
		active := y.always(good)
		y.is(active, puller.StateActive, puller.PhasePulling)
		queued := y.always(other)
		page, cursor, err := y.Jobs(puller.Filter{Limit: 32})
		if err != nil || len(page) != 32 || page[0].ID != queued.ID {
			y.Fatalf("%d jobs, %v", len(page), err)
		}
		later := end(1050)

		// The cursor's own job is forgotten; it marks its place all the same.
		if _, err := y.Job(cursor); puller.KindOf(err) != puller.ErrNotFound {
			y.Fatalf("the oldest jobs are still there: %v", err)
		}
		page, next, err := y.Jobs(puller.Filter{Cursor: cursor, Limit: 1000})
		if err != nil || next != "" {
			y.Errorf("after the cursor: %d jobs, next %q, %v", len(page), next, err)
		}
		for _, j := range page {
			if j.ID >= cursor {
				y.Errorf("after the cursor comes %s, which was listed before", j.ID)
			}
		}
		count := 0
		for _, j := range append(first, later...) {
			if _, err := y.Job(j.ID); err == nil {
				count++
			}
		}
		if _, err := y.Job(later[0].ID); puller.KindOf(err) != puller.ErrNotFound {
			y.Fatalf("no job younger than the active ones was forgotten: %v", err)
		}
		if count < 500 || count >= 1500 {
			y.Errorf("%d ended jobs are kept", count)
		}
		if _, err := y.Job(later[len(later)-1].ID); err != nil {
			y.Errorf("the newest is forgotten: %v", err)
		}
		y.is(active, puller.StateActive, puller.PhasePulling)
		y.is(queued, puller.StateQueued, "")
		release()
		y.came(active, puller.SourcePulled)
		y.came(queued, puller.SourceUpToDate)
	})
}
