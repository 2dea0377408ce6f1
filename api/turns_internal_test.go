package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
)

func TestACallerHasSomePlansAtOnceAndLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlanTurns()
		short, cancel := context.WithTimeoutCause(t.Context(), time.Second, errManyTurns())
		defer cancel()
		var all []func()
		for range s.each {
			done, err := s.take(short, "greedy")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, done)
		}
		if _, err := s.take(short, "greedy"); puller.KindOf(err) != puller.ErrOverloaded {
			t.Errorf("one more is answered %v", err)
		}
		done, err := s.take(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		for _, done := range append(all, done) {
			done()
		}
		if len(s.callers)+len(s.working) != 0 {
			t.Errorf("left over: %v, %d", s.callers, len(s.working))
		}
	})
}

func TestFewComposeFilesAreReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFileTurns()
		first, err := s.take(t.Context(), "greedy")
		if err != nil {
			t.Fatal(err)
		}
		// The caller's own further files wait, and so many of them at most.
		gone, leave := context.WithCancelCause(t.Context())
		left := errors.New("the caller has left")
		ended := make(chan error, s.waiting)
		for range s.waiting - 1 {
			go func() {
				_, err := s.take(gone, "greedy")
				ended <- err
			}()
		}
		synctest.Wait()
		if _, err := s.take(t.Context(), "greedy"); puller.KindOf(err) != puller.ErrOverloaded {
			t.Errorf("one more is answered %v", err)
		}
		// Another caller's file is read meanwhile; of a third caller's none is left.
		other, err := s.take(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		late, cancel := context.WithTimeoutCause(t.Context(), time.Second, errManyTurns())
		defer cancel()
		if _, err := s.take(late, "third"); puller.KindOf(err) != puller.ErrOverloaded {
			t.Errorf("a third file at once is answered %v", err)
		}
		other()
		third, err := s.take(t.Context(), "third")
		if err != nil {
			t.Fatal(err)
		}
		third()
		// Who leaves holds no place.
		leave(left)
		for range s.waiting - 1 {
			if err := <-ended; err != left {
				t.Error(err)
			}
		}
		first()
		if again, err := s.take(t.Context(), "greedy"); err != nil {
			t.Error(err)
		} else {
			again()
		}
		if len(s.callers)+len(s.working) != 0 {
			t.Errorf("left over: %v, %d", s.callers, len(s.working))
		}
	})
}
