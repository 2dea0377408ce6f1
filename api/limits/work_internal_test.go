package limits

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
)

// checkFree checks that nothing is in work.
func checkFree(t *testing.T, l *Work, all int64) {
	t.Helper()
	if len(l.callers) != 0 || !l.all.TryAcquire(all) {
		t.Errorf("work is left over: %v", l.callers)
	}
}

func TestWork(t *testing.T) {
	t.Run("plans", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := NewPlans()
			short, cancel := context.WithTimeoutCause(t.Context(), time.Second, Busy())
			defer cancel()
			var all []func()
			for range l.perCaller {
				release, err := l.Acquire(short, "greedy")
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, release)
			}
			if _, err := l.Acquire(short, "greedy"); puller.KindOf(err) != puller.ErrOverloaded {
				t.Errorf("one more ends with %v", err)
			}
			release, err := l.Acquire(t.Context(), "other")
			if err != nil {
				t.Fatal(err)
			}
			for _, release := range append(all, release) {
				release()
			}
			checkFree(t, l, 32)
		})
	})
	t.Run("compose files", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := NewComposeFiles()
			first, err := l.Acquire(t.Context(), "greedy")
			if err != nil {
				t.Fatal(err)
			}
			// More files of the caller wait, up to a limit.
			gone, leave := context.WithCancelCause(t.Context())
			left := errors.New("the client has gone")
			ended := make(chan error, l.waiting)
			for range l.waiting - 1 {
				go func() {
					_, err := l.Acquire(gone, "greedy")
					ended <- err
				}()
			}
			synctest.Wait()
			if _, err := l.Acquire(t.Context(), "greedy"); puller.KindOf(err) != puller.ErrOverloaded {
				t.Errorf("one more ends with %v", err)
			}
			// There is room for one file of another caller, but not for a third one.
			other, err := l.Acquire(t.Context(), "other")
			if err != nil {
				t.Fatal(err)
			}
			late, cancel := context.WithTimeoutCause(t.Context(), time.Second, Busy())
			defer cancel()
			if _, err := l.Acquire(late, "third"); puller.KindOf(err) != puller.ErrOverloaded {
				t.Errorf("a third file at a time ends with %v", err)
			}
			other()
			third, err := l.Acquire(t.Context(), "third")
			if err != nil {
				t.Fatal(err)
			}
			third()
			// A client that has gone has no place.
			leave(left)
			for range l.waiting - 1 {
				if err := <-ended; err != left {
					t.Error(err)
				}
			}
			first()
			again, err := l.Acquire(t.Context(), "greedy")
			if err != nil {
				t.Fatal(err)
			}
			again()
			checkFree(t, l, 2)
		})
	})
	t.Run("answers", func(t *testing.T) {
		l := NewAnswers()
		var all []func()
		try := func(caller string, size int64, want bool) {
			t.Helper()
			release, ok := l.TryAcquire(caller, size)
			if ok != want {
				t.Errorf("%d bytes for %s: %v", size, caller, ok)
			}
			if ok {
				all = append(all, release)
			}
		}
		try("a", 10<<20, true)
		try("a", 10<<20, false)
		try("a", 6<<20, true)
		for _, caller := range []string{"b", "c", "d"} {
			try(caller, 100<<20, true)
			try(caller, 1, false)
		}
		try("e", 1, false)
		for _, release := range all {
			release()
		}
		checkFree(t, l, 64<<20)
	})
}
