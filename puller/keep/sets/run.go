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
		following.Go(func() { s.learned.images.Run(ctx) })
	}
	var looked, read time.Time
	for ctx.Err() == nil {
		if time.Since(read) >= filesEvery {
			s.files.update(ctx)
			read = time.Now()
		}
		for _, one := range s.table.due() {
			s.refreshes.beginDue(one)
		}
		if time.Since(looked) >= lookEvery {
			s.learned.update(ctx)
			s.looks.look(ctx)
			looked = time.Now()
			for _, one := range s.table.sorted() {
				s.refreshes.repair(one)
			}
		}
		for _, r := range s.refreshes.take() {
			following.Go(func() { s.refreshes.follow(ctx, r) })
		}
		wait := lookEvery - time.Since(looked)
		if s.files != nil {
			wait = min(wait, filesEvery-time.Since(read))
		}
		timer := time.NewTimer(min(wait, s.table.untilDue()))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}
