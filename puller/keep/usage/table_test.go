package usage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream/pullstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records keep records in memory.
type records struct {
	mu     sync.Mutex
	all    map[string][]byte // of images
	others map[string][]byte
	saves  atomic.Int32
	fails  bool
	killed bool          // nothing that was not written yet is
	slow   time.Duration // that a save of images takes
}

func (r *records) of(kind string) map[string][]byte {
	if kind == usage.Kind {
		return r.all
	}
	return r.others
}

func (r *records) Load(kind string) (map[string][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.of(kind)), nil
}

func (r *records) Save(kind string, values map[string][]byte) error {
	if kind == usage.Kind {
		<-time.After(r.slow)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saves.Add(1)
	if r.fails {
		return errors.New("the disk is full")
	}
	if !r.killed {
		maps.Copy(r.of(kind), values)
	}
	return nil
}

func (r *records) Delete(kind string, keys []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		if !r.killed {
			delete(r.of(kind), key)
		}
	}
	return nil
}

// host is an engine with a Service and a Table, in a bubble.
type host struct {
	*testing.T
	engine  *enginetest.Engine
	adapter *docker.Engine
	records *records
	service *jobs.Service
	table   *usage.Table
	stop    func()
}

func withHost(t *testing.T, use func(*enginetest.Engine), test func(h *host)) {
	synctest.Test(t, func(t *testing.T) {
		scripted := enginetest.New(t)
		use(scripted)
		adapter, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { adapter.Close() })
		h := &host{T: t, engine: scripted, adapter: adapter, records: &records{all: map[string][]byte{}, others: map[string][]byte{}}}
		h.service, err = jobs.New(adapter, jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), OutputDir: t.TempDir(), OutputLimit: 1 << 20, Runs: 4, Log: silent()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.service.Close(context.Background()) })
		h.start()
		t.Cleanup(func() { h.stop() })
		test(h)
	})
}

func silent() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func (h *host) start() {
	h.table = usage.New(usage.Options{Engine: h.adapter, Records: h.records, Log: silent()})
	if err := h.table.Load(); err != nil {
		h.Fatal(err)
	}
	h.table.Recall(h.service)
	ctx, cancel := context.WithCancel(h.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.table.Run(ctx, h.service) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.Error(err)
		}
	})
	synctest.Wait()
}

// restart ends the table and starts another one on its records.
func (h *host) restart() {
	h.stop()
	h.start()
}

// kill ends the table as SIGKILL does, and starts another one on what it has written.
func (h *host) kill() {
	synctest.Wait()
	h.records.mu.Lock()
	h.records.killed = true
	h.records.mu.Unlock()
	h.stop()
	h.records.mu.Lock()
	h.records.killed = false
	h.records.mu.Unlock()
	<-time.After(time.Second)
	h.start()
}

// remove has somebody remove the image.
func (h *host) remove() {
	<-time.After(time.Second)
	h.engine.Remove(ours)
	<-time.After(time.Second)
}

// pull has the Service pull an image if it is missing, and waits for it.
func (h *host) pull(image string, seed int) puller.Job {
	h.Helper()
	return h.pullAs(image, seed, puller.PolicyMissing)
}

func (h *host) pullAlways(image string, seed int) puller.Job {
	h.Helper()
	return h.pullAs(image, seed, puller.PolicyAlways)
}

// submit has the Service pull an image as its script says, and waits for it.
func (h *host) submit(image string) {
	h.Helper()
	j, err := h.service.Pull(puller.PullRequest{Image: image, Policy: puller.PolicyAlways})
	if err == nil {
		j, err = h.service.Wait(h.Context(), j.ID)
	}
	if err != nil || j.State != puller.StateSucceeded {
		h.Fatalf("it ended with %+v, %v", j.Error, err)
	}
}

func (h *host) pullAs(image string, seed int, policy puller.Policy) puller.Job {
	h.Helper()
	<-time.After(time.Second) // what comes at one moment has no order
	h.engine.Script(image, enginetest.Serve(enginetest.NewImage(image, seed)))
	j, err := h.service.Pull(puller.PullRequest{Image: image, Policy: policy})
	if err == nil {
		j, err = h.service.Wait(h.Context(), j.ID)
	}
	if err != nil || j.State != puller.StateSucceeded {
		h.Fatalf("it ended with %+v, %v", j.Error, err)
	}
	return j
}

// unwatch has the engine tell of no more events.
func (h *host) unwatch() {
	h.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
		if call == "events" {
			return http.StatusInternalServerError, "no events"
		}
		return 0, ""
	})
	h.engine.Kill()
	h.engine.Revive()
}

// others has another client of the engine pull an image.
func (h *host) others(image string, seed int) {
	h.Helper()
	<-time.After(time.Second) // what comes at one moment has no order
	h.engine.Script(image, enginetest.Serve(enginetest.NewImage(image, seed)))
	if err := h.adapter.Pull(h.Context(), puller.Pull{Image: image}, func(pullstream.Message) {}); err != nil {
		h.Fatal(err)
	}
}

// of returns what is known of the image that has a name.
func (h *host) of(name string) (r usage.Record, known bool) {
	h.Helper()
	synctest.Wait()
	s, err := h.table.Snapshot(h.Context(), false)
	if err != nil {
		h.Fatal(err)
	}
	for _, i := range s.Images {
		for _, tag := range i.Tags {
			if tag == name {
				r, known = s.Records[i.ID]
				return r, known
			}
		}
	}
	return r, false
}

const (
	ours   = "registry.test/ours:v1"
	theirs = "registry.test/theirs:v1"
)

func both(t *testing.T, test func(t *testing.T, use func(*enginetest.Engine))) {
	for name, use := range map[string]func(*enginetest.Engine){"graph": func(*enginetest.Engine) {}, "containerd": (*enginetest.Engine).UseContainerdStore} {
		t.Run(name, func(t *testing.T) { test(t, use) })
	}
}

func TestOwner(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		for name, c := range map[string]struct {
			act  func(h *host)
			want []string
		}{
			"pulled":      {func(h *host) { h.pull(ours, 1) }, []string{ours}},
			"two names":   {func(h *host) { h.pull("registry.test/other:v1", 1); h.pull(ours, 1) }, []string{"registry.test/other:v1", ours}},
			"by others":   {func(h *host) { h.others(ours, 1) }, nil},
			"present":     {func(h *host) { h.others(ours, 1); h.pull(ours, 1) }, nil},
			"other name":  {func(h *host) { h.others("registry.test/other:v1", 1); h.pull(ours, 1) }, nil},
			"loaded":      {func(h *host) { h.engine.Tag("loaded:v1", enginetest.NewImage(ours, 1)); h.pull(ours, 1) }, nil},
			"removed":     {func(h *host) { h.pull(ours, 1); <-time.After(time.Second); h.engine.Remove(ours); h.others(ours, 1) }, nil},
			"pulled anew": {func(h *host) { h.others(ours, 1); h.of(ours); h.engine.Remove(ours); h.of(ours); h.pull(ours, 1) }, []string{ours}},
			"not watched": {func(h *host) { h.unwatch(); h.pull(ours, 1) }, nil},
			"watched again": {func(h *host) {
				h.engine.Kill()
				<-time.After(time.Second)
				h.engine.Revive()
				<-time.After(time.Minute)
				h.pull(ours, 1)
			}, []string{ours}},
			"restart": {func(h *host) { h.pull(ours, 1); h.of(ours); h.restart() }, []string{ours}},
			"stopped": {func(h *host) { h.pull(ours, 1); synctest.Wait(); h.restart() }, []string{ours}},
			"by id": {func(h *host) {
				h.pull("registry.test/ours@"+enginetest.Digest(enginetest.NewImage(ours, 1)), 1)
				<-time.After(time.Second)
				h.engine.Tag(ours, enginetest.NewImage(ours, 1))
			}, []string{"registry.test/ours@" + enginetest.Digest(enginetest.NewImage(ours, 1))}},
			"killed":         {func(h *host) { h.pull(ours, 1); h.kill() }, []string{ours}},
			"killed twice":   {func(h *host) { h.pull(ours, 1); h.kill(); h.kill() }, []string{ours}},
			"killed later":   {func(h *host) { <-time.After(time.Hour); h.pull(ours, 1); h.of(ours); h.kill() }, []string{ours}},
			"killed, others": {func(h *host) { h.others("registry.test/other:v1", 1); h.pull(ours, 1); h.kill() }, nil},
			"killed, loaded": {func(h *host) { h.engine.Tag("loaded:v1", enginetest.NewImage(ours, 1)); h.pull(ours, 1); h.kill() }, nil},
			"killed, removed": {func(h *host) {
				h.pull(ours, 1)
				<-time.After(2 * time.Minute)
				h.engine.Remove(ours)
				h.others(ours, 1)
				h.kill()
			}, nil},
			"killed, not watched":   {func(h *host) { h.unwatch(); h.pull(ours, 1); h.kill() }, nil},
			"killed, no table":      {func(h *host) { h.kill(); h.stop(); h.pull(ours, 1); h.start() }, nil},
			"removed, pulled again": {func(h *host) { h.pull(ours, 1); h.remove(); h.pull(ours, 1) }, []string{ours}},
			"killed, pulled again":  {func(h *host) { h.pull(ours, 1); h.remove(); h.pull(ours, 1); h.kill() }, []string{ours}},
			"killed, moved on": { // what was pulled before the checkpoint has gone since
				func(h *host) {
					h.pull(ours, 1)
					h.remove()
					h.restart()
					<-time.After(time.Second)
					h.pull(ours, 1)
					h.kill()
				}, []string{ours},
			},
			"killed, by others": {func(h *host) {
				h.others(theirs, 2) // within a minute, there is a checkpoint
				<-time.After(30 * time.Second)
				h.pull(ours, 1)
				h.remove()
				<-time.After(30 * time.Second)
				h.others(ours, 1)
				h.kill()
			}, nil},
			"loaded meanwhile": {func(h *host) {
				h.engine.Script(ours, func(p *enginetest.Pull) {
					h.engine.Tag("loaded:v1", enginetest.NewImage(ours, 1))
					p.Wait(5 * time.Minute)
					enginetest.Serve(enginetest.NewImage(ours, 1))(p)
				})
				h.submit(ours)
			}, nil},
			"event is late": {func(h *host) {
				release := h.engine.HoldEvents()
				h.pull(ours, 1)
				<-time.After(time.Millisecond)
				h.of(ours)
				release()
			}, []string{ours}},
			"loaded, removed": {func(h *host) {
				h.engine.Tag(ours, enginetest.NewImage(ours, 1))
				h.remove()
				h.pull(ours, 1)
			}, []string{ours}},
			"removed, loaded": {func(h *host) {
				h.pull(ours, 1)
				h.remove()
				h.engine.Tag(ours, enginetest.NewImage(ours, 1))
				h.pull(ours, 1)
			}, nil},
			"no table": {func(h *host) { h.stop(); h.pull(ours, 1); h.start() }, nil},
		} {
			t.Run(name, func(t *testing.T) {
				withHost(t, use, func(h *host) {
					<-time.After(time.Second)
					c.act(h)
					r, known := h.of(ours)
					if !known {
						t.Fatal("it is not known")
					}
					if diff := cmp.Diff(c.want, r.Brought); diff != "" {
						t.Error(diff)
					}
				})
			})
		}
	})
}

// What comes while the engine is asked for its lists is not lost.
func TestOwnerDuringList(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		for name, list := range map[string]string{"before": "images", "after": "list"} { // the list of images
			t.Run(name, func(t *testing.T) {
				withHost(t, use, func(h *host) {
					<-time.After(time.Second)
					var once sync.Once
					h.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
						if call == list {
							once.Do(func() { h.pull(ours, 1) })
						}
						return 0, ""
					})
					if _, err := h.table.Snapshot(h.Context(), false); err != nil {
						t.Fatal(err)
					}
					if r, known := h.of(ours); !known || len(r.Brought) != 1 {
						t.Errorf("it is known: %t, %+v", known, r)
					}
				})
			})
		}
	})
}

// Another caller's list has taken what was seen when that is to be saved. It is not counted as
// saved before it is.
func TestOwnerDuringOthersList(t *testing.T) {
	for name, c := range map[string]struct {
		status int // of the other caller's list
		killed time.Duration
	}{
		"killed meanwhile": {0, 5 * time.Second}, "killed after it": {0, 30 * time.Second}, "list fails": {http.StatusInternalServerError, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(*enginetest.Engine) {}, func(h *host) {
				<-time.After(5 * time.Minute)
				h.pull(ours, 1)
				<-time.After(59 * time.Second) // a second before the end of the batch
				var first atomic.Bool
				h.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
					if call == "images" && first.CompareAndSwap(false, true) {
						<-time.After(10 * time.Second)
						return c.status, ""
					}
					return 0, ""
				})
				listed := make(chan error, 1)
				go func() {
					_, err := h.table.Snapshot(h.Context(), false)
					listed <- err
				}()
				<-time.After(c.killed)
				h.kill()
				if err := <-listed; (err != nil) != (c.status != 0) {
					t.Error(err)
				}
				if r, known := h.of(ours); !known || len(r.Brought) != 1 {
					t.Errorf("it is known: %t, %+v", known, r)
				}
			})
		})
	}
}

// An image that has lost its name within a minute is still known to be Towline's.
func TestOwnerMoved(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		for name, next := range map[string]func(h *host){"listed": func(*host) {}, "killed": (*host).kill} {
			t.Run(name, func(t *testing.T) {
				withHost(t, use, func(h *host) {
					<-time.After(time.Second)
					old := h.pull(ours, 1).Result.ImageID
					h.pullAlways(ours, 2)
					next(h)
					synctest.Wait()
					s, err := h.table.Snapshot(h.Context(), false)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff([]string{ours}, s.Records[old].Brought); diff != "" {
						t.Error(diff)
					}
				})
			})
		}
	})
}

func TestArrived(t *testing.T) {
	withHost(t, func(*enginetest.Engine) {}, func(h *host) {
		<-time.After(time.Hour)
		pulled := time.Now().Add(time.Second)
		h.others(theirs, 2)
		synctest.Wait()
		<-time.After(time.Hour)
		if r, _ := h.of(theirs); !r.Arrived.Equal(pulled) || !r.Used.Equal(pulled) {
			t.Errorf("it came at %v and was used at %v, not at %v", r.Arrived, r.Used, pulled)
		}
		h.restart()
		if r, _ := h.of(theirs); !r.Arrived.Equal(pulled) {
			t.Errorf("after a restart it came at %v", r.Arrived)
		}
		h.engine.Remove(theirs)
		synctest.Wait()
		<-time.After(time.Minute)
		synctest.Wait()
		if len(h.records.all) != 0 {
			t.Errorf("of an image that is not there is kept %s", h.records.all)
		}
	})
}

func TestUsed(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		for name, c := range map[string]struct {
			act  func(h *host, id string)
			used time.Duration // after the hour; 0 for never
		}{
			"unused":  {func(*host, string) {}, 0},
			"present": {func(h *host, _ string) { <-time.After(time.Minute); h.pull(theirs, 2) }, time.Minute},
			"pulled":  {func(h *host, _ string) { <-time.After(time.Minute); h.others(theirs, 2) }, time.Minute},
			"started": {func(h *host, id string) {
				<-time.After(time.Minute)
				h.engine.AddContainer(enginetest.ContainerRequest{Image: id}, true)
			}, time.Minute},
			"gone": {func(h *host, id string) { // before it could be listed
				h.engine.Program(id, func(p *enginetest.Process) int { p.Wait(time.Minute); return 0 })
				h.adapter.Remove(h.Context(), h.engine.AddContainer(enginetest.ContainerRequest{Image: id}, true))
			}, time.Nanosecond},
			"exits": {func(h *host, id string) {
				h.engine.Program(id, func(p *enginetest.Process) int { p.Wait(20 * time.Minute); return 0 })
				h.engine.AddContainer(enginetest.ContainerRequest{Image: id}, true)
				<-time.After(21 * time.Minute)
			}, 20 * time.Minute},
			"found at the start": {func(h *host, id string) {
				h.stop()
				h.engine.Program(id, func(p *enginetest.Process) int { p.Wait(5 * time.Minute); return 0 })
				h.engine.AddContainer(enginetest.ContainerRequest{Image: id}, true)
				<-time.After(time.Hour)
				h.start()
			}, 5 * time.Minute},
		} {
			t.Run(name, func(t *testing.T) {
				withHost(t, use, func(h *host) {
					i := enginetest.NewImage(theirs, 2)
					h.engine.Tag(theirs, i)
					<-time.After(time.Hour)
					s, err := h.table.Snapshot(h.Context(), false)
					if err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					c.act(h, s.Images[0].ID)
					r, _ := h.of(theirs)
					switch used := r.Used.Sub(began); {
					case c.used == 0 && !r.Used.IsZero(), c.used != 0 && used.Round(time.Minute) != c.used.Round(time.Minute):
						t.Errorf("it was used after %v", used)
					}
				})
			})
		}
	})
}

// However much happens, the engine is asked little, and little is saved.
func TestCost(t *testing.T) {
	withHost(t, func(*enginetest.Engine) {}, func(h *host) {
		i := enginetest.NewImage(theirs, 2)
		h.engine.Tag(theirs, i)
		<-time.After(5 * time.Minute)
		var lists atomic.Int32
		h.engine.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "images" || call == "list" || call == "inspect" {
				lists.Add(1)
			}
			return 0, ""
		})
		h.records.saves.Store(0)
		<-time.After(time.Hour)
		if lists.Load()+h.records.saves.Load() != 0 {
			t.Errorf("in an hour without events there were %d calls and %d saves", lists.Load(), h.records.saves.Load())
		}
		for range 900 {
			h.adapter.Remove(h.Context(), h.engine.AddContainer(enginetest.ContainerRequest{Image: i.ID}, true))
			<-time.After(4 * time.Second)
		}
		if n, saves := lists.Load(), h.records.saves.Load(); n > 120 || saves > 60 || n == 0 {
			t.Errorf("for 900 containers in an hour there were %d calls and %d saves", n, saves)
		}
	})
}

func TestSaveFails(t *testing.T) {
	withHost(t, func(*enginetest.Engine) {}, func(h *host) {
		h.records.mu.Lock()
		h.records.fails = true
		h.records.mu.Unlock()
		h.pull(ours, 1)
		<-time.After(2 * time.Minute)
		h.records.mu.Lock()
		h.records.fails = false
		h.records.mu.Unlock()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if len(h.records.all) != 1 {
			t.Errorf("it is not saved later: %s", h.records.all)
		}
	})
}

// TestWatchedAgainDuringSave has the engine followed again while a slow disk saves a batch.
func TestWatchedAgainDuringSave(t *testing.T) {
	withHost(t, func(*enginetest.Engine) {}, func(h *host) {
		h.stop()
		h.records.slow = 30 * time.Second
		h.start()
		h.others(theirs, 1)
		<-time.After(70 * time.Second) // the batch is saved
		h.engine.Kill()
		h.engine.Revive()
		<-time.After(2 * time.Minute)
		h.pull(ours, 2)
		<-time.After(2 * time.Minute)
		if r, known := h.of(ours); !known || len(r.Brought) == 0 {
			h.Errorf("the image is %+v, %t", r, known)
		}
		h.kill()
		if r, _ := h.of(theirs); len(r.Brought) > 0 {
			h.Errorf("Towline has brought %+v", r)
		}
	})
}

func TestLoadDamaged(t *testing.T) {
	withHost(t, func(*enginetest.Engine) {}, func(h *host) {
		h.stop()
		id := enginetest.NewImage(theirs, 2).ID
		h.engine.Tag(theirs, enginetest.NewImage(theirs, 2))
		for _, value := range []string{"", "null", "{}", "[]", `{"arrived":"x"}`, `{"brought":["` + theirs + `"]}`} {
			h.records.all = map[string][]byte{id: []byte(value)}
			h.start()
			if r, known := h.of(theirs); !known || len(r.Brought) != 0 || r.Arrived.IsZero() {
				t.Errorf("of %q remains %+v", value, r)
			}
			h.stop()
		}
	})
}

func TestManySightings(t *testing.T) {
	withHost(t, func(*enginetest.Engine) {}, func(h *host) {
		for n := range 1000 {
			h.engine.AddEvent("tag", fmt.Sprintf("sha256:%064x", n), strings.Repeat("x", 1000))
			h.engine.AddEvent("pull", fmt.Sprintf("a%d:1", n), "")
		}
		synctest.Wait()
		s, err := h.table.Snapshot(h.Context(), false)
		if err != nil || len(s.Records) != 0 {
			t.Errorf("of events without images there are %d records: %v", len(s.Records), err)
		}
	})
}
