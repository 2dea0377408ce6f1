package sets

import (
	"context"
	"sync"
	"time"
)

const (
	// lookEvery is how often the engine is asked which images it has.
	lookEvery = time.Minute
	// filesEvery is how often files are looked at.
	filesEvery = 5 * time.Second
)

// Run refreshes sets when they are due, pulls images again that are removed, and reads files
// that change, until ctx ends. It returns when all that it has started has ended.
func (s *Sets) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	if s.learned != nil {
		following.Go(func() { s.learned.Run(ctx) })
	}
	var looked, read time.Time
	for ctx.Err() == nil {
		if time.Since(read) >= filesEvery {
			s.readFiles(ctx)
			read = time.Now()
		}
		for _, one := range s.due() {
			s.saving.Lock()
			if s.get(one.name) == one {
				s.refresh(one) // the set says why it has not begun
			}
			s.saving.Unlock()
		}
		if time.Since(looked) >= lookEvery {
			s.learn(ctx)
			s.look(ctx)
			looked = time.Now()
			for _, one := range s.sorted() {
				s.repair(one)
			}
		}
		for _, r := range s.take() {
			following.Go(func() { s.follow(ctx, r) })
		}
		wait := lookEvery - time.Since(looked)
		if s.files != nil {
			wait = min(wait, filesEvery-time.Since(read))
		}
		timer := time.NewTimer(min(wait, s.untilDue()))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// take returns the jobs that are to be followed.
func (s *Sets) take() []running {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.started
	s.started = nil
	return taken
}

// due returns the sets whose refresh is to begin.
func (s *Sets) due() (all []*set) {
	at := now()
	for _, one := range s.sorted() {
		s.mu.Lock()
		if !one.due.IsZero() && !one.due.After(at) {
			if one.running || len(one.images) == 0 {
				one.due = one.when.Next(at) // the one that goes on counts for this one
			} else {
				all = append(all, one)
			}
		}
		s.mu.Unlock()
	}
	return all
}

// untilDue returns how long it is until a set is due.
func (s *Sets) untilDue() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := lookEvery
	at := now()
	for _, one := range s.all {
		if !one.due.IsZero() {
			wait = min(wait, max(one.due.Sub(at), time.Millisecond))
		}
	}
	return wait
}
