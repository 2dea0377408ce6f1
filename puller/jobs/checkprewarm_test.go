package jobs_test

import (
	"testing"

	"github.com/towline/towline/puller"
)

func TestCheckPrewarm(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		got, err := d.CheckPrewarm(puller.PrewarmRequest{Images: puller.Images{{Image: "alpine"}, {Image: good, Policy: puller.PolicyNewer}}, Priority: puller.PriorityLow})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []puller.PullRequest{
			{Image: "docker.io/library/alpine:latest", Policy: puller.PolicyMissing, Priority: puller.PriorityLow},
			{Image: good, Policy: puller.PolicyNewer, Priority: puller.PriorityLow},
		} {
			one := got.Images[i]
			if one.Image != want.Image || one.Policy != want.Policy || one.Priority != want.Priority {
				t.Errorf("image %d is %+v", i, one)
			}
		}
		for _, r := range []puller.PrewarmRequest{
			{}, {Images: puller.Images{{Image: "No"}}}, {Images: puller.Images{{Image: good}}, Policy: "sometimes"},
		} {
			_, err := d.CheckPrewarm(r)
			_, prewarmErr := d.Prewarm(r)
			if puller.KindOf(err) != puller.ErrInvalidRequest || err.Error() != prewarmErr.Error() {
				t.Errorf("%+v gives %v, and Prewarm gives %v", r, err, prewarmErr)
			}
		}
		if jobs, _, err := d.Jobs(puller.Filter{}); err != nil || len(jobs) > 0 {
			t.Errorf("%d jobs are there, %v", len(jobs), err)
		}
	})
}
