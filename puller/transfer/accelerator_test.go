package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream/pullstream"
)

// accelerator has the engine pull, and counts what is asked of it.
type accelerator struct {
	engines.Accelerator
	engine         engines.Engine
	how            puller.Accelerated
	pulls          []puller.Pull
	closed, proven int // closed in all, and after the image was there
	stalls         bool
}

type acceleration struct {
	*accelerator
	pull puller.Pull
}

func (a *accelerator) Accelerate(_ context.Context, p puller.Pull) engines.Acceleration {
	p.Connected, p.Busy = nil, nil
	a.pulls = append(a.pulls, p)
	return &acceleration{a, p}
}

func (a *acceleration) Pull(ctx context.Context, each func(pullstream.Message)) error {
	if a.stalls {
		return puller.Errorf(puller.ErrStalled, "nothing came")
	}
	return a.engine.Pull(ctx, a.pull, each)
}

func (a *acceleration) Accelerated() puller.Accelerated { return a.how }

func (a *acceleration) Close() {
	a.closed++
	if _, err := a.engine.Inspect(context.Background(), "", ""); err == nil {
		a.proven++
	}
}

func TestAccelerator(t *testing.T) {
	accelerated := puller.Accelerated{Way: puller.WayAlias, FromRegistry: 70, FromCache: 230}
	none := puller.Accelerated{Way: puller.WayNone, Reason: "a reason"}
	off := request(puller.PolicyAlways, 1)
	off.Accelerate = puller.AccelerateOff
	for _, c := range []struct {
		name       string
		request    transfer.Request
		fails      int
		how        puller.Accelerated
		want       *puller.Accelerated
		downloaded int64
		pulls      int
	}{
		{"alias", request(puller.PolicyAlways, 1), 0, accelerated, &accelerated, 70, 1},
		{"none", request(puller.PolicyAlways, 1), 0, none, &none, 300, 1},
		{"retried", request(puller.PolicyAlways, 1), 1, accelerated, &accelerated, 70, 2},
		{"off", off, 0, accelerated, nil, 300, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &engine{fails: c.fails}
			a := &accelerator{engine: e, how: c.how}
			withAccelerator(t, e, a, func(t *testing.T, s *transfer.Transfers) {
				sub := join(t, s, c.request, 0)
				<-sub.over
				synctest.Wait()
				if sub.err != nil || sub.result.Downloaded != c.downloaded {
					t.Errorf("it ended with %v, and %d bytes downloaded, want %d", sub.err, sub.result.Downloaded, c.downloaded)
				}
				if diff := cmp.Diff(c.want, sub.result.Accelerated); diff != "" {
					t.Errorf("result.accelerated (-want +got):\n%s", diff)
				}
				if len(a.pulls) != c.pulls || a.closed != c.pulls || c.pulls > 0 && a.proven != 1 {
					t.Errorf("it was asked for %d pulls, and %d were closed, %d of them with the image there; want %d, and 1", len(a.pulls), a.closed, a.proven, c.pulls)
				}
			})
		})
	}
}

// TestStalledAccelerator stands still. The next attempt is the engine's own.
func TestStalledAccelerator(t *testing.T) {
	e := &engine{}
	a := &accelerator{engine: e, how: puller.Accelerated{Way: puller.WayAlias}, stalls: true}
	withAccelerator(t, e, a, func(t *testing.T, s *transfer.Transfers) {
		sub := join(t, s, request(puller.PolicyAlways, 1), 0)
		<-sub.over
		synctest.Wait()
		if how := sub.result.Accelerated; sub.err != nil || how == nil || how.Way != puller.WayNone || len(a.pulls) != 1 || a.closed != 1 {
			t.Errorf("it ended with %v, %+v, after %d pulls of the accelerator", sub.err, how, len(a.pulls))
		}
	})
}

// limited is an accelerator of whose registry the first pull finds that it limits the rate.
// Each pull fails, and its job ends.
type limited struct {
	accelerator
	fetches bool // it finds that while it fetches; else in its end
	began   time.Time
	asked   []string // its pulls, with when
	cooled  []string // what it was told itself
}

func (a *limited) Accelerate(_ context.Context, p puller.Pull) engines.Acceleration {
	a.asked = append(a.asked, fmt.Sprint(p.Image, " ", time.Since(a.began)))
	err := puller.Errorf(puller.ErrDenied, "no")
	switch {
	case len(a.asked) > 1:
	case a.fetches:
		p.Busy(20 * time.Second)
	default:
		err = &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: 20 * time.Second, Err: errors.New("too many requests")}
	}
	return &refused{acceleration{&a.accelerator, p}, err}
}

func (a *limited) CoolDown(registry string, d time.Duration) {
	a.cooled = append(a.cooled, fmt.Sprint(registry, " ", d))
}

type refused struct {
	acceleration
	err error
}

func (a *refused) Pull(context.Context, func(pullstream.Message)) error { return a.err }

// The queue and the accelerator share the cool-downs of a registry.
func TestAcceleratorCoolDown(t *testing.T) {
	for _, c := range []struct {
		name    string
		fetches bool
		told    []string
	}{{"of_the_accelerator", true, nil}, {"of_the_queue", false, []string{"registry.test 20s"}}} {
		t.Run(c.name, func(t *testing.T) {
			e := &engine{}
			a := &limited{accelerator: accelerator{engine: e}, fetches: c.fetches}
			withAccelerator(t, e, a, func(t *testing.T, s *transfer.Transfers) {
				a.began = time.Now()
				var all []*subscriber
				for turn, image := range []string{"registry.test/app:v1", "registry.test/app:v2", "other.test/app:v1"} {
					r := request(puller.PolicyAlways, 0)
					r.Key.Image, r.Turn = image, uint64(turn)
					all = append(all, join(t, s, r, 0))
					synctest.Wait()
				}
				for _, sub := range all {
					<-sub.over
				}
				if diff := cmp.Diff([]string{"registry.test/app:v1 0s", "other.test/app:v1 0s", "registry.test/app:v2 20s"}, a.asked); diff != "" {
					t.Errorf("pulls (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(c.told, a.cooled); diff != "" {
					t.Errorf("the accelerator was told (-want +got):\n%s", diff)
				}
			})
		})
	}
}
