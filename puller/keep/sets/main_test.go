package sets_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/sets"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	web = "registry.test/web:v1"
	db  = "registry.test/db:v1"
)

// scripted is a Service and an Engine of which a test says what they do.
type scripted struct {
	puller.Service
	mu     sync.Mutex
	here   map[string]string // IDs by name, which are digests too
	remote map[string]string // what the registry has
	jobs   []puller.Job
	asked  []puller.PrewarmRequest
	begun  []time.Time
	gate   chan struct{} // jobs end when it is closed; nil for at once
	refuse error         // of Prewarm
	fail   error         // of pulls
	mute   error         // of the engine
	looks  int           // inspects

	containers []engines.ContainerState
	start      chan engines.Event
}

func digest(of string) string {
	sum := sha256.Sum256([]byte(of))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (s *scripted) CheckPrewarm(r puller.PrewarmRequest) (puller.PrewarmRequest, error) {
	if len(r.Images) == 0 {
		return r, puller.Errorf(puller.ErrInvalidRequest, "images: missing; name at least one")
	}
	if err := puller.CheckImages(len(r.Images)); err != nil {
		return r, err
	}
	images := make(puller.Images, len(r.Images))
	for i, one := range r.Images {
		full, named, err := puller.ParseImage(one.Image)
		if err == nil && r.Rules != nil {
			err = r.Rules.CheckName(named)
		}
		if err != nil {
			return r, fmt.Errorf("images[%d]: %w", i, err)
		}
		one.Image = full
		images[i] = one
	}
	r.Images = images
	return r, nil
}

func (s *scripted) Prewarm(r puller.PrewarmRequest) (puller.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return puller.Job{}, s.refuse
	}
	s.asked, s.begun = append(s.asked, r), append(s.begun, time.Now())
	n := len(s.jobs)
	job := puller.Job{ID: fmt.Sprintf("job-%d", n), Kind: puller.JobPrewarm, State: puller.StateActive}
	children := []puller.Job{}
	for i, one := range r.Images {
		id := fmt.Sprintf("job-%d", n+1+i)
		job.Children = append(job.Children, id)
		job.Images = append(job.Images, puller.ImageState{Job: id, Image: one.Image, State: puller.StateActive})
		children = append(children, puller.Job{ID: id, Kind: puller.JobPull, Image: one.Image, State: puller.StateActive})
	}
	s.jobs = append(append(s.jobs, job), children...)
	return job, nil
}

// end ends a prewarm. mu is held.
func (s *scripted) end(n int) {
	job := &s.jobs[n]
	job.State = puller.StateSucceeded
	job.Images = slices.Clone(job.Images) // callers have those of before
	for i := range job.Images {
		child := &s.jobs[n+1+i]
		if s.fail == nil {
			s.here[child.Image] = s.remote[child.Image]
			child.State, child.Result = puller.StateSucceeded, &puller.Result{Digest: s.remote[child.Image], ImageID: s.remote[child.Image]}
		} else {
			child.State, child.Error, job.State = puller.StateFailed, puller.NewJobError(s.fail), puller.StateFailed
		}
		job.Images[i].State, job.Images[i].Error = child.State, child.Error
	}
}

func (s *scripted) Wait(ctx context.Context, id string) (puller.Job, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return puller.Job{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.jobs {
		if s.jobs[n].ID == id {
			if !s.jobs[n].State.Ended() {
				s.end(n)
			}
			return s.jobs[n], nil
		}
	}
	return puller.Job{}, puller.Errorf(puller.ErrNotFound, "no job")
}

func (s *scripted) Job(id string) (puller.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return puller.Job{}, puller.Errorf(puller.ErrNotFound, "no job")
}

func (s *scripted) Image(_ context.Context, name, _ string, _ puller.Rules) (puller.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.mute != nil {
		return puller.Image{}, s.mute
	}
	id, ok := s.here[name]
	if !ok {
		return puller.Image{}, puller.Errorf(puller.ErrNotFound, "no image")
	}
	repository, _, _ := strings.Cut(strings.TrimPrefix(name, "registry.test/"), ":")
	return puller.Image{ID: id, RepoTags: []string{name}, RepoDigests: []string{"registry.test/" + repository + "@" + id}}, nil
}

func (s *scripted) Images(context.Context, bool) (all []engines.ImageSummary, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, id := range s.here {
		all = append(all, engines.ImageSummary{ID: id, Tags: []string{name}})
	}
	return all, s.mute
}

func (s *scripted) AllContainers(context.Context) ([]engines.ContainerState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.containers, s.mute
}

func (s *scripted) Events(ctx context.Context, _ time.Time, each func(engines.Event)) error {
	each(engines.Event{Type: engines.EventConnected})
	for {
		select {
		case e := <-s.start:
			each(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set changes what is scripted.
func (s *scripted) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// host has sets over a scripted Service, in a bubble of its own time.
type host struct {
	*testing.T
	*sets.Sets
	service *scripted
	store   *storetest.Store
	log     *strings.Builder
	metrics *prometheus.Registry
	dir     string
	learn   sets.Learn
	close   func()

	mu        sync.Mutex
	told      []puller.ImageChange
	collected map[string]time.Time // when a collection has removed names
}

func withHost(t *testing.T, test func(h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &host{T: t, store: storetest.New(), log: new(strings.Builder), dir: filepath.Join(t.TempDir(), "sets.d"), service: &scripted{
			here: map[string]string{}, remote: map[string]string{web: digest("web 1"), db: digest("db 1")}, start: make(chan engines.Event),
		}}
		h.open()
		t.Cleanup(func() { h.close() })
		test(h)
	})
}

func (h *host) tryOpen() (*sets.Sets, error) {
	logger := logrus.New()
	logger.SetOutput(h.log)
	h.metrics = prometheus.NewRegistry()
	return sets.Open(sets.Options{
		Changed: func(c puller.ImageChange) {
			h.unlocked()
			h.mu.Lock()
			defer h.mu.Unlock()
			h.told = append(h.told, c)
		},
		Collected: func(name string, since time.Time) bool {
			h.unlocked()
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.collected[name].After(since)
		},
		Learn: h.learn, Service: h.service, Engine: h.service, Records: h.store.Records(), Host: "host-1", Dir: h.dir, Log: logger, Metrics: h.metrics,
		Compose: func(ctx context.Context, content []byte, profiles []string) (puller.PrewarmRequest, error) {
			return compose.Parse(ctx, content, nil, profiles)
		},
	})
}

// unlocked is called where no lock of Sets may be held: under one, it never returns.
func (h *host) unlocked() {
	if h.Sets != nil {
		h.Protections("", nil)
	}
}

func (h *host) open() {
	h.Helper()
	s, err := h.tryOpen()
	if err != nil {
		h.Fatal(err)
	}
	h.Sets = s
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	h.close = func() {
		cancel()
		running.Wait()
	}
}

// crash has the daemon end with nothing kept but what was on disk, and start again later.
func (h *host) crash(off time.Duration) {
	kept := h.store.Reopen()
	h.close()
	h.store = kept
	<-time.After(off)
	h.open()
	synctest.Wait()
}

func (h *host) put(name string, r keep.SetRequest) keep.Set {
	h.Helper()
	s, err := h.PutSet(name, r)
	if err != nil {
		h.Fatal(err)
	}
	return s
}

// images returns a request for images.
func images(names ...string) keep.SetRequest {
	var r keep.SetRequest
	for _, name := range names {
		r.Images = append(r.Images, puller.PullRequest{Image: name})
	}
	return r
}

// refreshes checks how many prewarms were begun.
func (h *host) refreshes(want int) {
	h.Helper()
	synctest.Wait()
	h.service.mu.Lock()
	defer h.service.mu.Unlock()
	if got := len(h.service.asked); got != want {
		h.Fatalf("%d prewarms were begun, not %d: %v", got, want, h.service.begun)
	}
}

// state checks how an image of a set stands.
func (h *host) state(name, image string, want keep.SetState, reason string) keep.SetImage {
	h.Helper()
	synctest.Wait()
	s, err := h.Set(name)
	if err != nil {
		h.Fatal(err)
	}
	for _, i := range s.Images {
		if i.Image == image {
			if i.State != want || !strings.Contains(i.Reason, reason) || reason == "" && i.Reason != "" {
				h.Errorf("%s is %s (%s), not %s (%s)", image, i.State, i.Reason, want, reason)
			}
			if s.Counts[want] == 0 {
				h.Errorf("the counts are %v", s.Counts)
			}
			return i
		}
	}
	h.Fatalf("the set %s does not have %s", name, image)
	return keep.SetImage{}
}

func (h *host) write(name, content string) {
	h.Helper()
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		h.Fatal(err)
	}
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		h.Fatal(err)
	}
	// The time of files is not that of the bubble.
	if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
		h.Fatal(err)
	}
}
