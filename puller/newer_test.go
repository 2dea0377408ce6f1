package puller_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/pullertest"
)

func TestNewerAsksTheRegistryAndPullsOnlyWhatMoved(t *testing.T) {
	one, two := pullertest.NewImage(good, 1), pullertest.NewImage(good, 2)
	name, _, _ := strings.Cut(good, ":")
	byDigest := name + "@" + pullertest.Digest(one)
	down := &fakeRegistry{err: puller.Errorf(puller.RegistryUnavailable, "connection refused")}
	for _, c := range []struct {
		name     string
		image    string
		there    *puller.Image
		registry *fakeRegistry // nil for none
		source   puller.Source
		pulls    int
		asked    int
		notices  int
	}{
		{"unchanged", good, &one, &fakeRegistry{digest: pullertest.Digest(one)}, puller.UpToDate, 0, 1, 0},
		{"moved", good, &one, &fakeRegistry{digest: pullertest.Digest(two)}, puller.Pulled, 1, 1, 0},
		{"absent", good, nil, &fakeRegistry{digest: pullertest.Digest(two)}, puller.Pulled, 1, 0, 0},
		{"the registry does not answer", good, &one, down, puller.Pulled, 1, 1, 1},
		{"the registry does not answer, and nothing has moved", good, &two, down, puller.UpToDate, 1, 1, 1},
		{"there is no registry to ask", good, &one, nil, puller.Pulled, 1, 0, 0},
		{"a digest", byDigest, &one, &fakeRegistry{digest: pullertest.Digest(one)}, puller.UpToDate, 0, 1, 0},
		{"a digest that is absent", byDigest, nil, &fakeRegistry{digest: pullertest.Digest(one)}, puller.Pulled, 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := patient
			if c.registry != nil {
				c.registry.asked = nil
				o.Registry = c.registry
			}
			inYardWith(t, o, nil, func(y *yard) {
				if c.there != nil {
					y.engine.Tag(c.image, *c.there)
				}
				y.engine.Script(good, pullertest.Serve(two))
				y.engine.Script(byDigest, pullertest.Serve(one))
				secret := credentials(y.T, "hunter2")
				j := y.submit(puller.PullRequest{Image: c.image, Policy: puller.Newer, Credentials: secret})
				v := y.came(j, c.source)
				if v.Result.Digest == "" || v.Result.ImageID == "" {
					y.Errorf("the result is %+v", v.Result)
				}
				y.pulls(c.pulls)
				if got := notices(y.events(j)); len(got) != c.notices || strings.Contains(strings.Join(got, ""), "hunter2") {
					y.Errorf("the notices are %q", got)
				}
				if c.registry != nil && (c.registry.calls() != c.asked || c.asked > 0 && (c.registry.asked[0] != c.image || c.registry.credentials != secret)) {
					y.Errorf("the registry was asked for %q", c.registry.asked)
				}
			})
		})
	}
}

func TestNewerBesideAlwaysIsPulled(t *testing.T) {
	o := single
	image := pullertest.NewImage(good, 1)
	o.Registry = &fakeRegistry{digest: pullertest.Digest(image)}
	inYardWith(t, o, nil, func(y *yard) {
		y.engine.Tag(good, image)
		y.serve(good)
		release := y.hold(other)
		y.always(other)
		jobs := []puller.Job{y.submit(puller.PullRequest{Image: good, Policy: puller.Newer}), y.always(good)}
		y.is(jobs[0], puller.Queued, "")
		release()
		for _, j := range jobs {
			y.came(j, puller.UpToDate)
		}
		y.pulls(2)
	})
}

func TestNewerWithARateLimitedHeadFallsBackAndSaysSo(t *testing.T) {
	o := patient
	o.Registry = &fakeRegistry{err: &puller.Error{Kind: puller.RateLimited, RetryAfter: 30 * time.Second, Err: errors.New("429")}}
	inYardWith(t, o, nil, func(y *yard) {
		y.engine.Tag(good, pullertest.NewImage(good, 1))
		y.serve(good)
		j := y.submit(puller.PullRequest{Image: good, Policy: puller.Newer})
		y.came(j, puller.UpToDate)
		for _, e := range y.events(j) {
			if e.Type == "notice" && e.RetryAfterSeconds != 30 {
				y.Errorf("the notice is %+v", e)
			}
		}
		y.pulls(1)
	})
}
