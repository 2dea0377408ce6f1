package transfer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream/pullstream"
)

func TestWatchdogStopsItsTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Transfers{opts: Options{FirstByteTimeout: time.Second, StallTimeout: time.Second, ExtractStallTimeout: time.Second}}
		for _, heard := range []bool{false, true} {
			ctx, dog := s.watch(t.Context(), "image")
			if heard {
				dog.note(true, pullstream.Change{Advanced: true}, new(pullstream.Progress))
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
