package jobs_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// crashBefore is crash, with the clock set back by a time before the next start: what
// the store has of jobs that go on lies in the future.
func (y *daemon) crashBefore(back time.Duration) {
	y.Helper()
	kept := y.store.Reopen()
	y.close()
	seq, records, err := kept.Load()
	if err != nil {
		y.Fatal(err)
	}
	for i := range records {
		j := &records[i].Job
		j.CreatedAt = j.CreatedAt.Add(back)
		if !j.StartedAt.IsZero() {
			j.StartedAt = j.StartedAt.Add(back)
		}
	}
	if err := kept.Save(seq, records); err != nil {
		y.Fatal(err)
	}
	y.store = kept
	y.open()
}

func TestDuration(t *testing.T) {
	for name, submit := range map[string]func(y *daemon) puller.Job{
		"pull": func(y *daemon) puller.Job {
			return y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways})
		},
		"prewarm": func(y *daemon) puller.Job {
			return y.prewarm(puller.PrewarmRequest{Policy: puller.PolicyAlways, Images: puller.Images{{Image: good}}})
		},
		"run": func(y *daemon) puller.Job {
			j, err := y.Service.Run(puller.RunRequest{Image: good, Policy: puller.PolicyAlways})
			if err != nil {
				y.Fatal(err)
			}
			return j
		},
	} {
		t.Run("clock_set_back/"+name, func(t *testing.T) {
			withDaemon(t, func(y *daemon) {
				y.hold(good)
				j := submit(y)
				y.is(j, puller.StateActive, puller.PhasePulling)
				<-time.After(3 * time.Second)
				image := enginetest.NewImage(good, 1)
				y.engine.Program(image.ID, enginetest.Print("", "", 0))
				y.engine.Script(good, func(p *enginetest.Pull) {
					p.Wait(2 * time.Second)
					enginetest.Serve(image)(p)
				})
				y.crashBefore(time.Hour)
				v := y.end(j)
				if v.State != puller.StateSucceeded || v.Result == nil {
					t.Fatalf("the job is %s: %+v", v.State, v.Error)
				}
				all := []puller.Job{v}
				for _, id := range v.Children {
					child, err := y.Job(id)
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
		withDaemonOf(t, single, nil, func(y *daemon) {
			y.hold(good)
			y.is(y.always(good), puller.StateActive, puller.PhasePulling)
			j := y.submit(puller.PullRequest{Image: other})
			y.is(j, puller.StateQueued, "")
			y.engine.Tag(other, enginetest.NewImage(other, 2))
			y.crashBefore(time.Hour)
			if v := y.came(j, puller.SourcePresent); v.Result.DurationSeconds < 0 {
				t.Errorf("it took %v s", v.Result.DurationSeconds)
			}
		})
	})
}
