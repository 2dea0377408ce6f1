package puller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream"
)

func TestAStoppedWatchdogHasNoTimerLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(nil, Options{FirstByteTimeout: time.Second, StallTimeout: time.Second, ExtractStallTimeout: time.Second})
		defer p.Close(t.Context())
		for _, heard := range []bool{false, true} {
			ctx, dog := p.watch(t.Context(), "image")
			if heard {
				dog.heard(true, stream.Change{Advanced: true}, new(stream.Progress))
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
	p := New(nil, Options{})
	defer p.Close(t.Context())
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
			w := q.join(transferKey{image: fmt.Sprintf("registry%d.test/image:v1", i)}, 0, uint64(i))
			if err := w.acquire(t.Context(), quiet); err != nil {
				t.Fatal(err)
			}
			w.coolDown(time.Duration(i) * time.Hour)
			w.release()
		}
		<-time.After(longestCoolDown + time.Second)
		synctest.Wait()
		q.wantEmpty(t, 4)
	})
}
