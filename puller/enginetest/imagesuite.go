package enginetest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
)

// images returns the engine's list.
func (f Fixture) images(t *testing.T, shared bool) []engines.ImageSummary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	list, err := f.Engine.Images(ctx, shared)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// listed returns the image that has a name.
func listedAs(list []engines.ImageSummary, name string) *engines.ImageSummary {
	for n, i := range list {
		if slices.Contains(i.Tags, name) || slices.Contains(i.Digests, name) {
			return &list[n]
		}
	}
	return nil
}

func (f Fixture) testImages(t *testing.T) {
	if found := listedAs(f.images(t, false), f.Good); found != nil {
		t.Fatalf("before its pull it is listed: %+v", found)
	}
	if _, err := f.pull(t.Context(), puller.Pull{Image: f.Good}); err != nil {
		t.Fatal(err)
	}
	image, err := f.inspect(t, f.Good, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{false, true} {
		found := listedAs(f.images(t, shared), f.Good)
		switch {
		case found == nil:
			t.Fatalf("after its pull it is not listed in %+v", f.images(t, shared))
		case found.ID != image.ID || found.Size <= 0 || found.Parent:
			t.Errorf("it is %+v", found)
		case shared && (found.Unique == nil || *found.Unique <= 0 || *found.Unique > found.Size):
			t.Errorf("its unique size is %v of %d", found.Unique, found.Size)
		case !shared && found.Unique != nil:
			t.Errorf("its unique size was not asked for, and is %d", *found.Unique)
		}
	}
	f.Remove(t, f.Good)
}

func (f Fixture) testRemoveImage(t *testing.T) {
	remove := func(name string) error {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return f.Engine.RemoveImage(ctx, name)
	}
	wantKind(t, remove(f.Good), puller.ErrNotFound)
	wantKind(t, remove("sha256:"+strings.Repeat("0", 64)), puller.ErrNotFound)
	repository, _, _ := strings.Cut(f.Good, ":v1")
	for _, bad := range []string{"", repository, "sha256:12", strings.TrimPrefix(f.Good, "docker.io/") + ":", "-f", "../containers/x"} {
		wantKind(t, remove(bad), puller.ErrInvalidRequest)
	}
	for _, name := range []string{f.Good, f.Digest} {
		if _, err := f.pull(t.Context(), puller.Pull{Image: name}); err != nil {
			t.Fatal(err)
		}
		image, err := f.inspect(t, name, "")
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, remove(image.ID), puller.ErrConflict)
		if err := remove(name); err != nil {
			t.Error(err)
		}
		if _, err := f.inspect(t, image.ID, ""); puller.KindOf(err) != puller.ErrNotFound {
			t.Errorf("after its name was removed, the image is there: %v", err)
		}
		wantKind(t, remove(name), puller.ErrNotFound)
	}
}

func (f Fixture) testDisk(t *testing.T) {
	disk, err := f.Engine.Disk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if (disk == nil) != (info.Disk == nil) || disk != nil && (disk.Free <= 0 || disk.Total < disk.Free || info.Disk.Total != disk.Total) {
		t.Errorf("the disk is %+v, and in Info %+v", disk, info.Disk)
	}
}

// seen collects events.
type seen struct {
	mu     sync.Mutex
	events []engines.Event
}

func (s *seen) add(v engines.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, v)
}

// any returns an event of a type with an action.
func (s *seen) any(kind engines.EventType, action string) (v engines.Event, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.events {
		if v.Type == kind && v.Action == action {
			return v, true
		}
	}
	return v, false
}

// follow follows the engine's events until the test ends, or stop is called.
func follow(t *testing.T, e engines.Engine, since time.Time) (s *seen, stop func() error) {
	t.Helper()
	s = new(seen)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Events(ctx, since, s.add) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	until(t, func() bool { _, ok := s.any(engines.EventConnected, ""); return ok }, "the events do not begin")
	return s, stop
}

func (f Fixture) testEvents(t *testing.T) {
	began := time.Now()
	live, stop := follow(t, f.Engine, time.Time{})
	if _, err := f.pull(t.Context(), puller.Pull{Image: f.Good}); err != nil {
		t.Fatal(err)
	}
	image, err := f.inspect(t, f.Good, "")
	if err != nil {
		t.Fatal(err)
	}
	f.Remove(t, f.Good)
	late, _ := follow(t, f.Engine, began.Add(-time.Second))
	for name, s := range map[string]*seen{"live": live, "later": late} {
		// Others may use the engine too.
		gone := func() (found engines.Event, ok bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			i := slices.IndexFunc(s.events, func(v engines.Event) bool {
				return v.Type == engines.EventImage && v.Action == "untag" && v.ID == image.ID
			})
			if i < 0 {
				return found, false
			}
			return s.events[i], true
		}
		until(t, func() bool { _, ok := gone(); return ok }, name+": no event says that the name has gone")
		if v, _ := gone(); v.Time.Before(began.Add(-time.Minute)) {
			t.Errorf("%s: the name has gone with %+v", name, v)
		}
	}
	wantKind(t, stop(), puller.ErrCanceled)
	live.mu.Lock()
	defer live.mu.Unlock()
	if first := live.events[0]; first.Type != engines.EventConnected {
		t.Errorf("the first event is %+v", first)
	}
}

// A container that has exited keeps its image, as one that runs does.
func (f ContainerFixture) testKeepsImage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	events, _ := follow(t, f.Engine, time.Time{})
	c := f.container("exit=0")
	id := f.create(t, c)
	before := time.Now()
	if ran, err := f.Engine.Ran(ctx, id); err != nil || !ran.IsZero() {
		t.Errorf("before its start it ran at %v: %v", ran, err)
	}
	check := func(started bool) {
		t.Helper()
		all, err := f.Engine.AllContainers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(all, func(s engines.ContainerState) bool { return s.ID == id })
		if at < 0 {
			t.Fatalf("it is not in %+v", all)
		}
		state := all[at]
		if state.Created.IsZero() || state.Image == "" {
			t.Errorf("a field is empty: %+v", state)
		}
		want := engines.ContainerState{ImageID: c.Image, Started: started}
		if diff := cmp.Diff(want, engines.ContainerState{ImageID: state.ImageID, Started: state.Started, Running: state.Running}); diff != "" {
			t.Error(diff)
		}
		wantKind(t, f.removeAllNames(ctx, c.Image), puller.ErrConflict)
	}
	check(false)
	if _, err := f.Engine.Run(ctx, id, false, func() {}, (&output{}).each); err != nil {
		t.Fatal(err)
	}
	check(true)
	if ran, err := f.Engine.Ran(ctx, id); err != nil || ran.Before(before.Add(-time.Minute)) || ran.After(time.Now().Add(time.Minute)) {
		t.Errorf("it ran at %v: %v", ran, err)
	}
	if err := f.Engine.Remove(ctx, id); err != nil {
		t.Error(err)
	}
	_, err := f.Engine.Ran(ctx, id)
	wantKind(t, err, puller.ErrNotFound)
	for _, action := range []string{"create", "start", "die", "destroy"} {
		until(t, func() bool {
			v, ok := events.any(engines.EventContainer, action)
			return ok && v.ID == id && v.Image != ""
		}, "there is no event "+action)
	}
}

// removeAllNames removes an image's names until one can't be removed.
func (f ContainerFixture) removeAllNames(ctx context.Context, id string) error {
	image, err := f.Engine.Inspect(ctx, id, "")
	if err != nil {
		return err
	}
	for _, name := range slices.Concat(image.RepoTags, image.RepoDigests) {
		if err := f.Engine.RemoveImage(ctx, full(name)); err != nil {
			return err
		}
	}
	return nil
}
