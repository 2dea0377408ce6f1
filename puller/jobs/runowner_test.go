package jobs_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// claim is an image whose labels say that its containers are of a job of this
// daemon, as an image has them that was committed from a run's container.
const claim = "sha256:c1a1000000000000000000000000000000000000000000000000000000000000"

func (d *daemon) claims(job string) {
	d.engine.Label(claim, map[string]string{"towline.job": job, "towline.instance": d.store.Instance()})
}

// others starts a container that somebody else has made of an image.
func (d *daemon) others(name string, labels map[string]string) string {
	return d.engine.AddContainer(enginetest.ContainerRequest{Name: name, Image: claim, Labels: labels}, true)
}

// left checks which containers the engine has.
func (d *daemon) left(ids ...string) {
	d.Helper()
	synctest.Wait()
	have := make(map[string]bool)
	for _, c := range d.engine.Containers() {
		have[c.ID] = true
	}
	for _, id := range ids {
		if !have[id] {
			d.Errorf("the container %s of somebody else was removed", id)
		}
		delete(have, id)
	}
	for id := range have {
		d.Errorf("the container %s is left", id)
	}
}

func TestRunOwner(t *testing.T) {
	t.Parallel()
	t.Run("forged", testRunOwnerForged)
	t.Run("image labels", testRunOwnerImageLabels)
	t.Run("sweep at start", testRunSweepAtStart)
	t.Run("found by name", testRunFoundByName)
	t.Run("of older version", testRunOfOlderVersion)
	t.Run("create answer lost", testRunCreateAnswerLost)
	t.Run("create while engine stops", testRunCreateWhileEngineStops)
	t.Run("other i d", testRunOwnerOtherID)
	t.Run("ended older version", testRunOwnerEndedOlderVersion)
	t.Run("two daemons", testRunOwnerTwoDaemons)
}

func testRunOwnerForged(t *testing.T) {
	for how, end := range map[string]func(d *daemon, j puller.Job){
		"its program exits": func(d *daemon, j puller.Job) { d.wantExit(j, 0) },
		"it is canceled":    func(d *daemon, j puller.Job) { d.Cancel(j.ID); d.end(j) },
		"a restart":         func(d *daemon, j puller.Job) { d.restart(); d.wantExit(j, 0) },
		"a crash":           func(d *daemon, j puller.Job) { d.crash(); d.wantExit(j, 0) },
		"the engine is away": func(d *daemon, j puller.Job) {
			d.engine.Kill()
			<-time.After(time.Second)
			d.engine.Revive()
			d.wantExit(j, 0)
		},
		"a crash of an ended one": func(d *daemon, j puller.Job) {
			d.wantExit(j, 0)
			<-time.After(time.Second)
			d.crash()
		},
	} {
		t.Run(how, func(t *testing.T) {
			withRunDaemon(t, counting(5, 0), func(d *daemon) {
				d.engine.Program(claim, enginetest.Hang(""))
				release := d.stuck("create")
				j := d.run(puller.RunRequest{})
				synctest.Wait()
				d.claims(j.ID)
				before := d.others("", nil)
				release()
				d.inState(j, puller.StateActive, puller.PhaseRunning)
				own := d.engine.Containers()[1]
				keep := []string{
					before, d.others("x"+own.Name, nil), d.others(strings.ToUpper(own.Name), nil), d.others(j.ID, nil),
					d.others("", map[string]string{"towline.job": j.ID, "towline.instance": "another"}),
					d.others("", map[string]string{"towline.job": "", "towline.instance": d.store.Instance()}),
				}
				<-time.After(1500 * time.Millisecond)
				end(d, j)
				<-time.After(10 * time.Second)
				d.left(keep...)
				if how != "it is canceled" {
					d.wantCounted(j, 5, nil)
				}
			})
		})
	}
}

func testRunOwnerImageLabels(t *testing.T) {
	withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
		d.engine.Label(enginetest.NewImage(good, 1).ID, map[string]string{"towline.job": "theirs", "towline.instance": "theirs", "other": "kept"})
		j := d.run(puller.RunRequest{})
		d.inState(j, puller.StateActive, puller.PhaseRunning)
		if l := d.engine.Containers()[0].Labels; l["towline.job"] != j.ID || l["towline.instance"] != d.store.Instance() || l["other"] != "kept" {
			d.Errorf("its labels are %v", l)
		}
	})
}

// A crash has left containers of runs that ended, or the engine was away.
func testRunSweepAtStart(t *testing.T) {
	withRunDaemon(t, enginetest.Print("", "", 3), func(d *daemon) {
		d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "remove" {
				return http.StatusInternalServerError, "device or resource busy"
			}
			return 0, ""
		})
		for range 3 {
			d.wantExit(d.run(puller.RunRequest{}), 3)
		}
		unknown := d.others("", map[string]string{"towline.job": "01KAKM00000000000000000000", "towline.instance": d.store.Instance()})
		d.down(func() { d.engine.OnContainer(nil); d.engine.Kill() })
		d.crash()
		<-time.After(10 * time.Second)
		d.engine.Revive()
		<-time.After(10 * time.Second)
		d.left(unknown)
	})
}

// The crash comes when the engine has created the container and before its ID is
// on disk.
func testRunFoundByName(t *testing.T) {
	for _, at := range []string{"attach", "start", "wait"} {
		t.Run(at, func(t *testing.T) {
			withRunDaemon(t, counting(2, 3), func(d *daemon) {
				release := d.stuck(at)
				j := d.run(puller.RunRequest{})
				synctest.Wait()
				created := d.engine.Containers()
				d.claims(j.ID)
				theirs := d.others("", nil)
				r, err := d.store.Record(j.ID)
				if err != nil || len(created) != 1 || r.Run.Name != created[0].Name || r.Run.Container != "" {
					d.Fatalf("the record has %+v, %v; the engine has %v", r.Run, err, created)
				}
				d.down(release)
				d.crash()
				d.wantExit(j, 3)
				d.wantCounted(j, 2, nil)
				d.left(theirs)
			})
		})
	}
}

// An older Towline wrote no names, and its containers have other instances.
func testRunOfOlderVersion(t *testing.T) {
	withRunDaemon(t, counting(3, 2), func(d *daemon) {
		release := d.stuck("create")
		j := d.run(puller.RunRequest{})
		<-time.After(time.Second)
		r, err := d.store.Record(j.ID)
		if err != nil {
			d.Fatal(err)
		}
		r.Run.Name, r.Run.Container, r.Job.Phase = "", "", puller.PhaseRunning
		release()
		d.close()
		synctest.Wait() // the engine may have created one all the same
		for _, c := range d.engine.Containers() {
			d.vanish(c.ID)
		}
		old := d.engine.AddContainer(enginetest.ContainerRequest{
			Image: enginetest.NewImage(good, 1).ID, Labels: map[string]string{"towline.job": j.ID, "towline.instance": "0123456789abcdef"},
		}, true)
		d.store = d.store.Reopen()
		if err := d.store.Save(1<<20, []store.Record{r}); err != nil {
			d.Fatal(err)
		}
		d.open()
		<-time.After(time.Second)
		if r, err := d.store.Record(j.ID); err != nil || r.Run.Container != old {
			d.Errorf("the record has %+v, %v", r.Run, err)
		}
		d.wantExit(j, 2)
		d.wantCounted(j, 3, nil)
		d.left()
	})
}

func testRunCreateAnswerLost(t *testing.T) {
	withRunDaemon(t, counting(2, 1), func(d *daemon) {
		d.engine.DropCreateAnswer()
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 1)
		d.wantCounted(j, 2, nil)
		d.wantNoContainers()
		if n := d.engine.Counts().Created; n != 1 {
			d.Errorf("%d containers were created", n)
		}
	})
}

func testRunCreateWhileEngineStops(t *testing.T) {
	withRunDaemon(t, counting(2, 1), func(d *daemon) {
		began := time.Now()
		d.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "create" && time.Since(began) < 20*time.Second {
				return http.StatusServiceUnavailable, "the daemon is shutting down"
			}
			return 0, ""
		})
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 1)
		d.wantCounted(j, 2, nil)
	})
}

// stray is an engine that gives the ID of another container than it has created.
type stray struct {
	engines.Engine
	id string
}

func (e *stray) Create(ctx context.Context, c engines.Container) (string, []string, error) {
	_, warnings, err := e.Engine.Create(ctx, c)
	return e.id, warnings, err
}

func testRunOwnerOtherID(t *testing.T) {
	e := new(stray)
	withDaemonOf(t, running, func(real engines.Engine) engines.Engine { e.Engine = real; return e }, func(d *daemon) {
		d.serve(good)
		d.engine.Program(claim, enginetest.Hang(""))
		e.id = d.others("", nil)
		v := d.failed(d.run(puller.RunRequest{}), puller.ErrInternal)
		if !strings.Contains(v.Error.Message, "asked to create") {
			d.Errorf("the error is %q", v.Error.Message)
		}
		d.left(e.id)
		if c := d.engine.Containers(); len(c) != 1 || c[0].Status != "running" {
			d.Errorf("their container is %+v", c)
		}
		d.restart()
		<-time.After(10 * time.Second)
		d.left(e.id)
	})
}

// Of a run of an older Towline that has ended nothing is known but its labels, and
// those prove nothing.
func testRunOwnerEndedOlderVersion(t *testing.T) {
	withRunDaemon(t, nil, func(d *daemon) {
		j := d.run(puller.RunRequest{})
		d.wantExit(j, 0)
		d.close()
		r, err := d.store.Record(j.ID)
		if err != nil {
			d.Fatal(err)
		}
		r.Run.Name, r.Run.Container = "", ""
		d.store = d.store.Reopen()
		if err := d.store.Save(1<<20, []store.Record{r}); err != nil {
			d.Fatal(err)
		}
		d.claims(j.ID)
		theirs := d.others("", nil)
		d.open()
		<-time.After(10 * time.Second)
		d.left(theirs)
	})
}

// Another daemon at the same engine has a store of its own, or a copy of this one's
// from before the run.
func testRunOwnerTwoDaemons(t *testing.T) {
	for name, store := range map[string]func(d *daemon) *storetest.Store{
		"its own": func(*daemon) *storetest.Store { return storetest.New() },
		"a copy":  func(d *daemon) *storetest.Store { return d.store.Reopen() },
	} {
		t.Run(name, func(t *testing.T) {
			withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
				first, other := d.Service, store(d)
				j := d.run(puller.RunRequest{})
				d.inState(j, puller.StateActive, puller.PhaseRunning)
				c := d.engine.Containers()[0].ID
				d.store = other
				d.open()
				<-time.After(10 * time.Second)
				d.left(c)
				if err := first.Close(context.Background()); err != nil {
					d.Error(err)
				}
				d.left(c)
			})
		})
	}
}
