package history_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/history"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a Service with a History, on a store.
type host struct {
	*testing.T
	engine  *enginetest.Engine
	adapter *docker.Engine
	store   *storetest.Store
	records store.Records
	service *jobs.Service
	*history.History
}

func withHost(t *testing.T, test func(h *host)) {
	synctest.Test(t, func(t *testing.T) {
		engine := enginetest.New(t)
		adapter, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: engine.Dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { adapter.Close() })
		s := storetest.New()
		h := &host{T: t, engine: engine, adapter: adapter, store: s, records: s.Records()}
		h.start()
		t.Cleanup(func() { h.service.Close(context.Background()) })
		test(h)
	})
}

func (h *host) start() {
	h.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	var err error
	if h.History, err = history.Open(history.Options{Records: h.records, Log: log}); err != nil {
		h.Fatal(err)
	}
	h.service, err = jobs.New(h.adapter, jobs.Options{
		Concurrency: 4, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: h.store, OutputDir: h.TempDir(), OutputLimit: 1 << 20, Runs: 4, Told: h.Told, Log: log,
	})
	if err != nil {
		h.Fatal(err)
	}
	h.Begin(h.service.Events())
}

func (h *host) restart() {
	h.Helper()
	h.service.Close(h.Context())
	h.start()
}

func (h *host) pull(image string) {
	h.Helper()
	h.engine.Script(image, enginetest.Serve(enginetest.NewImage(image, len(image))))
	j, err := h.service.Pull(puller.PullRequest{Image: image})
	if err == nil {
		_, err = h.service.Wait(h.Context(), j.ID)
	}
	if err != nil {
		h.Fatal(err)
	}
}

// removal is the removal of an image with a name.
func removal(name string) puller.ImageChange {
	return puller.ImageChange{Action: puller.ImageRemoved, ID: "sha256:1", Names: []string{name}, Size: 5, Why: "high"}
}

// read returns what readers of events are told, in short, and the number of the last of it.
func (h *host) read(kind, image string, since *uint64) (told []string, last uint64) {
	h.Helper()
	frames, sub, err := h.service.WatchAll(kind, image, since)
	if err != nil {
		h.Fatal(err)
	}
	for {
		for _, f := range frames {
			var e puller.Event
			if err := f.Decode(&e); err != nil {
				h.Fatal(err)
			}
			switch {
			case e.Image != nil && e.Job == "":
				told = append(told, string(e.Image.Action)+" "+e.Image.Names[0])
			case e.Type == "result", e.Type == "notice":
				told = append(told, e.Type)
			}
			last = max(last, e.Seq)
		}
		b, err := sub.Next(h.Context(), time.Minute)
		if err != nil {
			h.Fatal(err)
		}
		if b == nil {
			return told, last
		}
		frames = b.Frames()
	}
}

const (
	alpine = "docker.io/library/alpine:3"
	redis  = "docker.io/library/redis:7"
)

// A change is told among the events of all jobs, with a number of theirs, also to who comes
// back after a restart.
func TestEvents(t *testing.T) {
	withHost(t, func(h *host) {
		h.pull("registry.test/a:1")
		_, first := h.read("", "", new(uint64(0)))
		h.Add(removal(alpine))
		h.pull("registry.test/bb:1")
		h.Add(puller.ImageChange{Action: puller.ImageMissing, Names: []string{redis, "docker.io/library/redis@sha256:1"}, Set: "web"})
		for _, restarted := range []bool{false, true} {
			if restarted {
				h.restart()
			}
			for _, c := range []struct {
				kind, image string
				want        []string
			}{
				{"", "", []string{"removed " + alpine, "result", "missing " + redis}},
				{"image", "", []string{"removed " + alpine, "missing " + redis}},
				{"pull", "", []string{"result"}},
				{"", "redis:7", []string{"missing " + redis}},
				{"image", "alpine:3", []string{"removed " + alpine}},
				{"image", "alpine:4", nil},
			} {
				got, _ := h.read(c.kind, c.image, &first)
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%q %q, restarted %t:\n%s", c.kind, c.image, restarted, diff)
				}
			}
		}
	})
}

// Without jobs there are events all the same.
func TestNoJobs(t *testing.T) {
	withHost(t, func(h *host) {
		h.Add(removal(alpine))
		_, first := h.read("image", "", new(uint64(0)))
		h.Add(removal(redis))
		h.restart()
		got, _ := h.read("image", "", &first)
		if diff := cmp.Diff([]string{"removed " + redis}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestChanges(t *testing.T) {
	withHost(t, func(h *host) {
		const n = 1150
		for i := range n {
			h.Add(removal(fmt.Sprintf("registry.test/image:%d", i)))
		}
		h.restart()
		var names []string
		f := keep.HistoryFilter{Limit: 300}
		for {
			page, next, err := h.Changes(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				names = append(names, e.Image.Names...)
			}
			if next == "" {
				break
			}
			f.Cursor = next
		}
		if len(names) != 1050 || names[0] != "registry.test/image:1149" || names[1049] != "registry.test/image:100" {
			t.Errorf("there are %d, from %s to %s", len(names), names[0], names[len(names)-1])
		}
		got, _ := h.read("image", "", new(uint64(0)))
		if len(got) == 0 || got[0] != "notice" {
			t.Errorf("a reader of what is not kept any more is told %q", got)
		}
		page, _, err := h.Changes(keep.HistoryFilter{Image: "registry.test/image:1000"})
		if err != nil || len(page) != 1 {
			t.Errorf("one image has %+v, %v", page, err)
		}
		for _, f := range []keep.HistoryFilter{{Limit: -1}, {Limit: 1001}, {Cursor: "x"}, {Image: "A B"}} {
			if _, _, err := h.Changes(f); puller.KindOf(err) != puller.ErrInvalidRequest {
				t.Errorf("%+v: %v", f, err)
			}
		}
	})
}

func TestCollected(t *testing.T) {
	withHost(t, func(h *host) {
		before := time.Now()
		<-time.After(time.Second)
		h.Add(removal(alpine))
		<-time.After(time.Second)
		for name, c := range map[string]struct {
			image string
			since time.Time
			want  bool
		}{"removed": {alpine, before, true}, "another": {redis, before, false}, "earlier": {alpine, time.Now(), false}} {
			if got := h.Collected(c.image, c.since); got != c.want {
				t.Errorf("%s: %t", name, got)
			}
		}
	})
}

// failing are records that can't be saved.
type failing struct{ store.Records }

func (failing) Save(string, map[string][]byte) error { return errors.New("the disk is full") }

// Readers are told also where the disk is full.
func TestSaveFails(t *testing.T) {
	withHost(t, func(h *host) {
		good := h.records
		h.records = failing{good}
		h.restart()
		h.Add(removal(alpine))
		h.pull("registry.test/a:1")
		got, _ := h.read("", "", new(uint64(0)))
		if !slices.Contains(got, "removed "+alpine) || !slices.Contains(got, "result") {
			t.Errorf("readers are told %q", got)
		}
	})
}

func TestDamaged(t *testing.T) {
	withHost(t, func(h *host) {
		h.Add(removal(alpine))
		if err := h.records.Save("image-event", map[string][]byte{"a": []byte("x"), "b": []byte("{}"), "c": []byte(`{"seq":5}`), "d": []byte("null")}); err != nil {
			t.Fatal(err)
		}
		h.restart()
		if page, _, err := h.Changes(keep.HistoryFilter{}); err != nil || len(page) != 1 {
			t.Errorf("there are %+v, %v", page, err)
		}
	})
}

// An image with very many names is told with some of them.
func TestManyNames(t *testing.T) {
	withHost(t, func(h *host) {
		c := removal(alpine)
		for i := range 1000 {
			c.Names = append(c.Names, fmt.Sprintf("registry.test/image:%d", i))
		}
		h.Add(c)
		page, _, err := h.Changes(keep.HistoryFilter{})
		if err != nil || len(page[0].Image.Names) != puller.MaxChangeNames || page[0].Image.Names[0] != alpine {
			t.Errorf("there are %+v, %v", page, err)
		}
	})
}

// What was about to be removed is known after a restart, until it is told or forgotten.
func TestIntended(t *testing.T) {
	withHost(t, func(h *host) {
		one := func(id string) puller.ImageChange {
			c := removal("registry.test/a:v1")
			c.ID = id
			return c
		}
		h.Intend(one("sha256:1"))
		h.Add(one("sha256:1"))
		h.Intend(one("sha256:1")) // it has come again
		h.Intend(one("sha256:2"))
		h.Intend(one("sha256:3"))
		h.Drop("sha256:2")
		if err := h.records.Save("image-removal", map[string][]byte{"a": []byte("x"), "b": []byte("null"), "c": []byte(`{"change":{"id":"d"}}`)}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if diff := cmp.Diff([]puller.ImageChange{one("sha256:1"), one("sha256:3")}, h.Intended()); diff != "" {
				t.Error(diff)
			}
			h.restart()
		}
		if kept, err := h.records.Load("image-removal"); err != nil || len(kept) != 2 {
			t.Errorf("%q are kept, %v", kept, err)
		}
	})
}
