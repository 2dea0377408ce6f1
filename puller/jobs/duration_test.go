package jobs_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// crashBefore is crash, with the clock set back by a time before the next start: what
// the store has of jobs that go on lies in the future.
func (d *daemon) crashBefore(back time.Duration) {
	d.Helper()
	kept := d.store.Reopen()
	d.close()
	seq, records, err := kept.Load()
	if err != nil {
		d.Fatal(err)
	}
	for i := range records {
		j := &records[i].Job
		j.CreatedAt = j.CreatedAt.Add(back)
		if !j.StartedAt.IsZero() {
			j.StartedAt = j.StartedAt.Add(back)
		}
	}
	if err := kept.Save(seq, records); err != nil {
		d.Fatal(err)
	}
	d.store = kept
	d.open()
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for name, submit := range map[string]func(d *daemon) puller.Job{
		"pull": func(d *daemon) puller.Job {
			return d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways})
		},
		"prewarm": func(d *daemon) puller.Job {
			return d.prewarm(puller.PrewarmRequest{Policy: puller.PolicyAlways, Images: puller.Images{{Image: good}}})
		},
		"run": func(d *daemon) puller.Job {
			j, err := d.Service.Run(puller.RunRequest{Image: good, Policy: puller.PolicyAlways})
			if err != nil {
				d.Fatal(err)
			}
			return j
		},
	} {
		t.Run("clock_set_back/"+name, func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				d.hold(good)
				j := submit(d)
				d.inState(j, puller.StateActive, puller.PhasePulling)
				<-time.After(3 * time.Second)
				image := enginetest.NewImage(good, 1)
				d.engine.Program(image.ID, enginetest.Print("", "", 0))
				d.engine.Script(good, func(p *enginetest.Pull) {
					p.Wait(2 * time.Second)
					enginetest.Serve(image)(p)
				})
				d.crashBefore(time.Hour)
				v := d.end(j)
				if v.State != puller.StateSucceeded || v.Result == nil {
					t.Fatalf("the job is %s: %+v", v.State, v.Error)
				}
				all := []puller.Job{v}
				for _, id := range v.Children {
					child, err := d.Job(id)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, child)
				}
				for _, v := range all {
					if !v.StartedAt.After(v.FinishedAt) {
						t.Errorf("the clock was not set back: %s began at %s and ended at %s", v.ID, v.StartedAt, v.FinishedAt)
					}
					if v.Result.DurationSeconds < 0 {
						t.Errorf("the %s took %v s", v.Kind, v.Result.DurationSeconds)
					}
				}
			})
		})
	}
	t.Run("clock_set_back/queued", func(t *testing.T) { // and present at the next start
		withDaemonOf(t, single, nil, func(d *daemon) {
			d.hold(good)
			d.inState(d.pullAlways(good), puller.StateActive, puller.PhasePulling)
			j := d.submit(puller.PullRequest{Image: other})
			d.inState(j, puller.StateQueued, "")
			d.engine.Tag(other, enginetest.NewImage(other, 2))
			d.crashBefore(time.Hour)
			if v := d.succeeded(j, puller.SourcePresent); v.Result.DurationSeconds < 0 {
				t.Errorf("it took %v s", v.Result.DurationSeconds)
			}
		})
	})
}
