package jobs_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/storetest"
)

func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	errNoSpace := puller.Errorf(puller.ErrNoSpace, "no space left on device")
	for name, c := range map[string]struct{ fill, empty func(*storetest.Store) }{
		"with space to spare in the file": {func(s *storetest.Store) { s.Full(true) }, func(s *storetest.Store) { s.Full(false) }},
		"with no space at all":            {func(s *storetest.Store) { s.Fail(errNoSpace) }, func(s *storetest.Store) { s.Fail(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(d *daemon) {
				release := d.hold(good)
				ended := d.pullAlways(other)
				d.failed(ended, puller.ErrNotFound)
				running, queued, unwanted := d.pullAlways(good), d.pullAlways(other), d.pullAlways(other)
				d.inState(running, puller.StateActive, puller.PhasePulling)
				<-time.After(time.Second)
				numbered := func() (last uint64) {
					for _, j := range []puller.Job{running, queued, unwanted} {
						for _, e := range d.events(j) {
							last = max(last, e.Seq)
						}
					}
					return last
				}

				kept := d.store.Reopen()
				d.close()
				c.fill(kept)
				d.store = kept
				d.open()
				for range 3 {
					if err := d.Ready(); puller.KindOf(err) != puller.ErrOverloaded {
						d.Errorf("it is ready but for %v", err)
					}
					if _, err := d.Pull(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.ErrOverloaded {
						d.Errorf("a new job: %v", err)
					}
					<-time.After(2 * time.Second)
				}
				d.inState(ended, puller.StateFailed, "")
				if _, err := d.Cancel(unwanted.ID); err != nil {
					d.Error(err)
				}
				release()
				d.succeeded(running, puller.SourcePulled)
				d.failed(queued, puller.ErrNotFound)
				last := numbered()

				c.empty(kept)
				<-time.After(2 * time.Second)
				if err := d.Ready(); err != nil {
					d.Error(err)
				}
				d.crash()
				d.succeeded(running, puller.SourcePulled)
				j := d.pullAlways(good)
				d.end(j)
				if first := d.events(j)[0].Seq; first <= last {
					d.Errorf("a number was given twice: %d after %d", first, last)
				}
			})
		})
	}
}

func TestStartOnAFullDiskWithAnEmptyStore(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.close()
		d.store = storetest.New()
		d.store.Fail(puller.Errorf(puller.ErrNoSpace, "no space left on device"))
		d.open()
		if _, err := d.Pull(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.ErrOverloaded {
			d.Errorf("a new job: %v", err)
		}
		d.store.Fail(nil)
		<-time.After(2 * time.Second)
		d.serve(good)
		d.succeeded(d.pullAlways(good), puller.SourcePulled)
	})
}
