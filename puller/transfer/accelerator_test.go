package transfer_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream/pullstream"
)

// accelerator has the engine pull, and counts what is asked of it.
type accelerator struct {
	puller.Accelerator
	engine         puller.Engine
	how            puller.Accelerated
	pulls          []puller.Pull
	closed, proven int // closed in all, and after the image was there
	stalls         bool
}

type acceleration struct {
	*accelerator
	pull puller.Pull
}

func (a *accelerator) Accelerate(_ context.Context, p puller.Pull) puller.Acceleration {
	p.Connected = nil
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
