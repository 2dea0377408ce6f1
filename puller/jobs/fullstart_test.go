package jobs_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/storetest"
)

func TestStartOnAFullDisk(t *testing.T) {
	errNoSpace := puller.Errorf(puller.ErrNoSpace, "no space left on device")
	for name, c := range map[string]struct{ fill, empty func(*storetest.Store) }{
		"with space to spare in the file": {func(s *storetest.Store) { s.Full(true) }, func(s *storetest.Store) { s.Full(false) }},
		"with no space at all":            {func(s *storetest.Store) { s.Fail(errNoSpace) }, func(s *storetest.Store) { s.Fail(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(y *daemon) {
				release := y.hold(good)
				ended := y.always(other)
				y.failed(ended, puller.ErrNotFound)
				running, queued, unwanted := y.always(good), y.always(other), y.always(other)
				y.is(running, puller.StateActive, puller.PhasePulling)
				<-time.After(time.Second)
				numbered := func() (last uint64) {
					for _, j := range []puller.Job{running, queued, unwanted} {
						for _, e := range y.events(j) {
							last = max(last, e.Seq)
						}
					}
					return last
				}

				kept := y.store.Reopen()
				y.close()
				c.fill(kept)
				y.store = kept
				y.open()
				for range 3 {
					if err := y.Ready(); puller.KindOf(err) != puller.ErrOverloaded {
						y.Errorf("it is ready but for %v", err)
					}
					if _, err := y.Pull(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.ErrOverloaded {
						y.Errorf("a new job: %v", err)
					}
					<-time.After(2 * time.Second)
				}
				y.is(ended, puller.StateFailed, "")
				if _, err := y.Cancel(unwanted.ID); err != nil {
					y.Error(err)
				}
				release()
				y.came(running, puller.SourcePulled)
				y.failed(queued, puller.ErrNotFound)
				last := numbered()

				c.empty(kept)
				<-time.After(2 * time.Second)
				if err := y.Ready(); err != nil {
					y.Error(err)
				}
				y.crash()
				y.came(running, puller.SourcePulled)
				j := y.always(good)
				y.end(j)
				if first := y.events(j)[0].Seq; first <= last {
					y.Errorf("a number was given twice: %d after %d", first, last)
				}
			})
		})
	}
}

func TestStartOnAFullDiskWithAnEmptyStore(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.close()
		y.store = storetest.New()
		y.store.Fail(puller.Errorf(puller.ErrNoSpace, "no space left on device"))
		y.open()
		if _, err := y.Pull(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.ErrOverloaded {
			y.Errorf("a new job: %v", err)
		}
		y.store.Fail(nil)
		<-time.After(2 * time.Second)
		y.serve(good)
		y.came(y.always(good), puller.SourcePulled)
	})
}
