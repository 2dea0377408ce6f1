package puller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/stream/pullstream"
)

// nowhere is a store that keeps nothing.
type nowhere struct{ Store }

func (nowhere) Load() (uint64, []Record, error)          { return 0, nil, nil }
func (nowhere) Save(uint64, []Record) error              { return nil }
func (nowhere) Ended(Filter) ([]Job, error)              { return nil, nil }
func (nowhere) Last(int, int64) ([]Record, error)        { return nil, nil }
func (nowhere) Prune(time.Time, int, int64) (int, error) { return 0, nil }

func (nowhere) Private() ([]string, bool, error) { return nil, true, nil }
func (nowhere) Instance() string                 { return "nowhere" }

// vacant is an engine without containers.
type vacant struct{ Engine }

func (vacant) Containers(context.Context, string, string) ([]ContainerState, error) { return nil, nil }

// idle returns a Puller that is closed when the test ends.
func idle(t *testing.T, o Options) *Puller {
	t.Helper()
	o.Store, o.Log = nowhere{}, logrus.New()
	p, err := New(vacant{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestAStoppedWatchdogHasNoTimerLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idle(t, Options{FirstByteTimeout: time.Second, StallTimeout: time.Second, ExtractStallTimeout: time.Second})
		for _, heard := range []bool{false, true} {
			ctx, dog := p.watch(t.Context(), "image")
			if heard {
				dog.heard(true, pullstream.Change{Advanced: true}, new(pullstream.Progress))
			}
			dog.stop()
			if dog.timer != nil {
				t.Error("the timer is still there")
			}
			<-time.After(time.Hour)
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				t.Errorf("an hour later the cause is %v", cause)
			}
		}
	})
}

func TestJobIDsStayInOrderWhenTheClockIsSetBack(t *testing.T) {
	p := idle(t, Options{})
	before := p.newID()
	// As if the jobs so far had come an hour ahead of the clock of now.
	p.lastMS += uint64(time.Hour / time.Millisecond)
	for range 1000 {
		id := p.newID()
		if id <= before {
			t.Fatalf("%s comes after %s", id, before)
		}
		before = id
	}
}

// Names of registries come from outside: none is remembered for long.
func TestRegistriesInTheirCoolDownAreForgottenAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(4, 2)
		for i := range 1000 {
			w := q.stand(place{callers: []string{""}, key: transferKey{image: fmt.Sprintf("registry%d.test/image:v1", i)}, turn: uint64(i)})
			if !w.acquire(t.Context()) {
				t.Fatal("it has no slot")
			}
			w.coolDown(time.Duration(i) * time.Hour)
			w.release()
		}
		<-time.After(longestCoolDown + time.Second)
		synctest.Wait()
		q.wantEmpty(t, 4)
	})
}
