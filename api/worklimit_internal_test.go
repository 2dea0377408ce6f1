package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
)

// checkFree checks that nothing is in work.
func checkFree(t *testing.T, l *workLimit, all int64) {
	t.Helper()
	if len(l.callers) != 0 || !l.all.TryAcquire(all) {
		t.Errorf("work is left over: %v", l.callers)
	}
}

func TestWorkLimit(t *testing.T) {
	t.Run("plans", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newPlanLimit()
			short, cancel := context.WithTimeoutCause(t.Context(), time.Second, errManyRequests())
			defer cancel()
			var all []func()
			for range l.perCaller {
				release, err := l.acquire(short, "greedy")
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, release)
			}
			if _, err := l.acquire(short, "greedy"); puller.KindOf(err) != puller.ErrOverloaded {
				t.Errorf("one more ends with %v", err)
			}
			release, err := l.acquire(t.Context(), "other")
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
			l := newComposeLimit()
			first, err := l.acquire(t.Context(), "greedy")
			if err != nil {
				t.Fatal(err)
			}
			// More files of the caller wait, up to a limit.
			gone, leave := context.WithCancelCause(t.Context())
			left := errors.New("the client has gone")
			ended := make(chan error, l.waiting)
			for range l.waiting - 1 {
				go func() {
					_, err := l.acquire(gone, "greedy")
					ended <- err
				}()
			}
			synctest.Wait()
			if _, err := l.acquire(t.Context(), "greedy"); puller.KindOf(err) != puller.ErrOverloaded {
				t.Errorf("one more ends with %v", err)
			}
			// There is room for one file of another caller, but not for a third one.
			other, err := l.acquire(t.Context(), "other")
			if err != nil {
				t.Fatal(err)
			}
			late, cancel := context.WithTimeoutCause(t.Context(), time.Second, errManyRequests())
			defer cancel()
			if _, err := l.acquire(late, "third"); puller.KindOf(err) != puller.ErrOverloaded {
				t.Errorf("a third file at a time ends with %v", err)
			}
			other()
			third, err := l.acquire(t.Context(), "third")
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
			again, err := l.acquire(t.Context(), "greedy")
			if err != nil {
				t.Fatal(err)
			}
			again()
			checkFree(t, l, 2)
		})
	})
	t.Run("answers", func(t *testing.T) {
		l := newAnswerLimit()
		var all []func()
		try := func(caller string, size int64, want bool) {
			t.Helper()
			release, ok := l.tryAcquire(caller, size)
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
