package jobs_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/storetest"
)

// claim is an image whose labels say that its containers are of a job of this
// daemon, as an image has them that was committed from a run's container.
const claim = "sha256:c1a1000000000000000000000000000000000000000000000000000000000000"

func (y *daemon) claims(job string) {
	y.engine.Label(claim, map[string]string{"towline.job": job, "towline.instance": y.store.Instance()})
}

// others starts a container that somebody else has made of an image.
func (y *daemon) others(name string, labels map[string]string) string {
	return y.engine.AddContainer(enginetest.ContainerRequest{Name: name, Image: claim, Labels: labels}, true)
}

// left checks which containers the engine has.
func (y *daemon) left(ids ...string) {
	y.Helper()
	synctest.Wait()
	have := make(map[string]bool)
	for _, c := range y.engine.Containers() {
		have[c.ID] = true
	}
	for _, id := range ids {
		if !have[id] {
			y.Errorf("the container %s of somebody else was removed", id)
		}
		delete(have, id)
	}
	for id := range have {
		y.Errorf("the container %s is left", id)
	}
}

func TestRunOwnerForged(t *testing.T) {
	for how, end := range map[string]func(y *daemon, j puller.Job){
		"its program exits": func(y *daemon, j puller.Job) { y.exited(j, 0) },
		"it is canceled":    func(y *daemon, j puller.Job) { y.Cancel(j.ID); y.end(j) },
		"a restart":         func(y *daemon, j puller.Job) { y.restart(); y.exited(j, 0) },
		"a crash":           func(y *daemon, j puller.Job) { y.crash(); y.exited(j, 0) },
		"the engine is away": func(y *daemon, j puller.Job) {
			y.engine.Kill()
			<-time.After(time.Second)
			y.engine.Revive()
			y.exited(j, 0)
		},
		"a crash of an ended one": func(y *daemon, j puller.Job) {
			y.exited(j, 0)
			<-time.After(time.Second)
			y.crash()
		},
	} {
		t.Run(how, func(t *testing.T) {
			withRunDaemon(t, counting(5, 0), func(y *daemon) {
				y.engine.Program(claim, enginetest.Hang(""))
				release := y.stuck("create")
				j := y.run(puller.RunRequest{})
				synctest.Wait()
				y.claims(j.ID)
				before := y.others("", nil)
				release()
				y.is(j, puller.StateActive, puller.PhaseRunning)
				own := y.engine.Containers()[1]
				keep := []string{
					before, y.others("x"+own.Name, nil), y.others(strings.ToUpper(own.Name), nil), y.others(j.ID, nil),
					y.others("", map[string]string{"towline.job": j.ID, "towline.instance": "another"}),
					y.others("", map[string]string{"towline.job": "", "towline.instance": y.store.Instance()}),
				}
				<-time.After(1500 * time.Millisecond)
				end(y, j)
				<-time.After(10 * time.Second)
				y.left(keep...)
				if how != "it is canceled" {
					y.counts(j, 5, nil)
				}
			})
		})
	}
}

func TestRunOwnerImageLabels(t *testing.T) {
	withRunDaemon(t, enginetest.Hang(""), func(y *daemon) {
		y.engine.Label(enginetest.NewImage(good, 1).ID, map[string]string{"towline.job": "theirs", "towline.instance": "theirs", "other": "kept"})
		j := y.run(puller.RunRequest{})
		y.is(j, puller.StateActive, puller.PhaseRunning)
		if l := y.engine.Containers()[0].Labels; l["towline.job"] != j.ID || l["towline.instance"] != y.store.Instance() || l["other"] != "kept" {
			y.Errorf("its labels are %v", l)
		}
	})
}

// A crash has left containers of runs that ended, or the engine was away.
func TestRunSweepAtStart(t *testing.T) {
	withRunDaemon(t, enginetest.Print("", "", 3), func(y *daemon) {
		y.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "remove" {
				return http.StatusInternalServerError, "device or resource busy"
			}
			return 0, ""
		})
		for range 3 {
			y.exited(y.run(puller.RunRequest{}), 3)
		}
		unknown := y.others("", map[string]string{"towline.job": "01KAKM00000000000000000000", "towline.instance": y.store.Instance()})
		y.down(func() { y.engine.OnContainer(nil); y.engine.Kill() })
		y.crash()
		<-time.After(10 * time.Second)
		y.engine.Revive()
		<-time.After(10 * time.Second)
		y.left(unknown)
	})
}

// The crash comes when the engine has created the container and before its ID is
// on disk.
func TestRunFoundByName(t *testing.T) {
	for _, at := range []string{"attach", "start", "wait"} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, counting(2, 3), func(y *daemon) {
				release := y.stuck(at)
				j := y.run(puller.RunRequest{})
				synctest.Wait()
				created := y.engine.Containers()
				y.claims(j.ID)
				theirs := y.others("", nil)
				r, err := y.store.Record(j.ID)
				if err != nil || len(created) != 1 || r.Run.Name != created[0].Name || r.Run.Container != "" {
					y.Fatalf("the record has %+v, %v; the engine has %v", r.Run, err, created)
				}
				y.down(release)
				y.crash()
				y.exited(j, 3)
				y.counts(j, 2, nil)
				y.left(theirs)
			})
		})
	}
}

// An older Towline wrote no names, and its containers have other instances.
func TestRunOfOlderVersion(t *testing.T) {
	withRunDaemon(t, counting(3, 2), func(y *daemon) {
		release := y.stuck("create")
		j := y.run(puller.RunRequest{})
		<-time.After(time.Second)
		r, err := y.store.Record(j.ID)
		if err != nil {
			y.Fatal(err)
		}
		r.Run.Name, r.Run.Container, r.Job.Phase = "", "", puller.PhaseRunning
		release()
		y.close()
		synctest.Wait() // the engine may have created one all the same
		for _, c := range y.engine.Containers() {
			y.vanish(c.ID)
		}
		old := y.engine.AddContainer(enginetest.ContainerRequest{
			Image: enginetest.NewImage(good, 1).ID, Labels: map[string]string{"towline.job": j.ID, "towline.instance": "0123456789abcdef"},
		}, true)
		y.store = y.store.Reopen()
		if err := y.store.Save(1<<20, []puller.Record{r}); err != nil {
			y.Fatal(err)
		}
		y.open()
		<-time.After(time.Second)
		if r, err := y.store.Record(j.ID); err != nil || r.Run.Container != old {
			y.Errorf("the record has %+v, %v", r.Run, err)
		}
		y.exited(j, 2)
		y.counts(j, 3, nil)
		y.left()
	})
}

func TestRunCreateAnswerLost(t *testing.T) {
	withRunDaemon(t, counting(2, 1), func(y *daemon) {
		y.engine.DropCreateAnswer()
		j := y.run(puller.RunRequest{})
		y.exited(j, 1)
		y.counts(j, 2, nil)
		y.empty()
		if n := y.engine.Counts().Created; n != 1 {
			y.Errorf("%d containers were created", n)
		}
	})
}

func TestRunCreateWhileEngineStops(t *testing.T) {
	withRunDaemon(t, counting(2, 1), func(y *daemon) {
		began := time.Now()
		y.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "create" && time.Since(began) < 20*time.Second {
				return http.StatusServiceUnavailable, "the daemon is shutting down"
			}
			return 0, ""
		})
		j := y.run(puller.RunRequest{})
		y.exited(j, 1)
		y.counts(j, 2, nil)
	})
}

// stray is an engine that gives the ID of another container than it has created.
type stray struct {
	puller.Engine
	id string
}

func (e *stray) Create(ctx context.Context, c puller.Container) (string, []string, error) {
	_, warnings, err := e.Engine.Create(ctx, c)
	return e.id, warnings, err
}

func TestRunOwnerOtherID(t *testing.T) {
	e := new(stray)
	withDaemonOf(t, running, func(real puller.Engine) puller.Engine { e.Engine = real; return e }, func(y *daemon) {
		y.serve(good)
		y.engine.Program(claim, enginetest.Hang(""))
		e.id = y.others("", nil)
		v := y.failed(y.run(puller.RunRequest{}), puller.ErrInternal)
		if !strings.Contains(v.Error.Message, "asked to create") {
			y.Errorf("the error is %q", v.Error.Message)
		}
		y.left(e.id)
		if c := y.engine.Containers(); len(c) != 1 || c[0].Status != "running" {
			y.Errorf("their container is %+v", c)
		}
		y.restart()
		<-time.After(10 * time.Second)
		y.left(e.id)
	})
}

// Of a run of an older Towline that has ended nothing is known but its labels, and
// those prove nothing.
func TestRunOwnerEndedOlderVersion(t *testing.T) {
	withRunDaemon(t, nil, func(y *daemon) {
		j := y.run(puller.RunRequest{})
		y.exited(j, 0)
		y.close()
		r, err := y.store.Record(j.ID)
		if err != nil {
			y.Fatal(err)
		}
		r.Run.Name, r.Run.Container = "", ""
		y.store = y.store.Reopen()
		if err := y.store.Save(1<<20, []puller.Record{r}); err != nil {
			y.Fatal(err)
		}
		y.claims(j.ID)
		theirs := y.others("", nil)
		y.open()
		<-time.After(10 * time.Second)
		y.left(theirs)
	})
}

// Another daemon at the same engine has a store of its own, or a copy of this one's
// from before the run.
func TestRunOwnerTwoDaemons(t *testing.T) {
	for name, store := range map[string]func(y *daemon) *storetest.Store{
		"its own": func(*daemon) *storetest.Store { return storetest.New() },
		"a copy":  func(y *daemon) *storetest.Store { return y.store.Reopen() },
	} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Hang(""), func(y *daemon) {
				first, other := y.Service, store(y)
				j := y.run(puller.RunRequest{})
				y.is(j, puller.StateActive, puller.PhaseRunning)
				c := y.engine.Containers()[0].ID
				y.store = other
				y.open()
				<-time.After(10 * time.Second)
				y.left(c)
				if err := first.Close(context.Background()); err != nil {
					y.Error(err)
				}
				y.left(c)
			})
		})
	}
}
