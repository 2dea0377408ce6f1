package enginetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/stream/pullstream"
)

// Fixture is an engine under test, with images to pull. The engine has none of them at the
// beginning.
type Fixture struct {
	Engine engines.Engine
	Good   string // linux/amd64 only, of at least one layer
	// DiffIDs are those of Good's layers, lowest first.
	DiffIDs []string
	Digest  string // another good image, by its digest
	NoTag   string // in a repository that exists
	NoRepo  string
	// Private needs Credentials; WrongCredentials do not open it.
	Private                       string
	Credentials, WrongCredentials puller.Credentials
	Down                          string // in a registry that refuses connections
	Corrupt                       string // has a layer whose bytes do not match its digest
	Limited                       string // the registry answers 429
	Slow                          string // takes long after its first messages, unless aborted
	// Remove takes an image off the engine.
	Remove func(t *testing.T, image string)
	// Pulling reports whether the engine works on a pull of Slow.
	Pulling func() bool
}

// limit is how long one call may take; a real engine's take seconds.
const limit = time.Minute

// TestEngine tests the contract of engines.Engine.
func TestEngine(t *testing.T, f Fixture) {
	t.Run("info", f.testInfo)
	t.Run("pull and inspect", f.testPull)
	t.Run("pull by digest", f.testDigest)
	t.Run("storage", f.testStorage)
	t.Run("images", f.testImages)
	t.Run("remove image", f.testRemoveImage)
	t.Run("disk", f.testDisk)
	t.Run("events", f.testEvents)
	t.Run("missing image", f.testAbsent)
	t.Run("failures", f.testFailures)
	t.Run("credentials", f.testCredentials)
	t.Run("wrong platform", f.testPlatform)
	t.Run("cancel", f.testCancel)
	t.Run("cause of ctx", f.testCause)
}

func (f Fixture) pull(ctx context.Context, p puller.Pull) ([]pullstream.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var messages []pullstream.Message
	err := f.Engine.Pull(ctx, p, func(m pullstream.Message) { messages = append(messages, m) })
	return messages, err
}

func (f Fixture) inspect(t *testing.T, image, platform string) (puller.Image, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return f.Engine.Inspect(ctx, image, platform)
}

func (f Fixture) testInfo(t *testing.T) {
	info, err := f.Engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !info.Reachable || info.Name == "" || info.Version == "" || info.APIVersion == "" || info.ImageStore == "" || !strings.Contains(info.Platform, "/") {
		t.Errorf("a field is empty: %+v", info)
	}
}

func (f Fixture) testPull(t *testing.T) {
	messages, err := f.pull(t.Context(), puller.Pull{Image: f.Good})
	if err != nil {
		t.Fatal(err)
	}
	var progress pullstream.Progress
	digest := ""
	for _, m := range messages {
		progress.Fold(m, time.Now())
		if d := m.Digest(); d != "" {
			digest = d
		}
	}
	progress.Finish()
	totals := progress.Totals(time.Now())
	if totals.Layers == 0 || totals.LayersDone != totals.Layers {
		t.Errorf("layers are not all done: %+v", totals)
	}
	image, err := f.inspect(t, f.Good, "")
	if err != nil {
		t.Fatal(err)
	}
	if image.ID == "" || image.Platform != "linux/amd64" || image.Size == 0 {
		t.Errorf("a field of the image is empty: %+v", image)
	}
	if !slices.Contains(image.RepoTags, f.Good) {
		t.Errorf("the image does not have its name: %+v", image)
	}
	if byID, err := f.inspect(t, image.ID, ""); err != nil || byID.ID != image.ID {
		t.Errorf("by its ID the image is %+v: %v", byID, err)
	}
	carried := image.ID == digest
	for _, d := range image.RepoDigests {
		carried = carried || strings.HasSuffix(d, "@"+digest)
	}
	if digest != "" && !carried {
		t.Errorf("the image does not carry the digest %s of its pull: %+v", digest, image)
	}
	again, err := f.pull(t.Context(), puller.Pull{Image: f.Good})
	if err != nil || len(again) == 0 {
		t.Errorf("a second pull: %d messages, %v", len(again), err)
	}
	f.Remove(t, f.Good)
	if _, err := f.inspect(t, f.Good, ""); puller.KindOf(err) != puller.ErrNotFound {
		t.Errorf("after its removal the image is still found: %v", err)
	}
}

func (f Fixture) testDigest(t *testing.T) {
	if _, err := f.pull(t.Context(), puller.Pull{Image: f.Digest}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.inspect(t, f.Digest, ""); err != nil {
		t.Error(err)
	}
	f.Remove(t, f.Digest)
}

func (f Fixture) testStorage(t *testing.T) {
	keeps := func() (n int) {
		t.Helper()
		storage, err := f.Engine.Storage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range storage.Images {
			if i.ID == "" {
				t.Errorf("an image lacks its ID: %+v", i)
			}
			if slices.Equal(i.DiffIDs, f.DiffIDs) {
				n++
			}
		}
		if storage.Free != nil && *storage.Free <= 0 {
			t.Errorf("there are %d bytes free", *storage.Free)
		}
		return n
	}
	if n := keeps(); n != 0 {
		t.Errorf("before its pull it keeps the image %d times", n)
	}
	if _, err := f.pull(t.Context(), puller.Pull{Image: f.Good}); err != nil {
		t.Fatal(err)
	}
	if n := keeps(); n != 1 {
		t.Errorf("after its pull it keeps the image %d times", n)
	}
	f.Remove(t, f.Good)
	if n := keeps(); n != 0 {
		t.Errorf("after its removal it keeps the image %d times", n)
	}
}

func (f Fixture) testAbsent(t *testing.T) {
	_, err := f.inspect(t, f.Good, "")
	wantKind(t, err, puller.ErrNotFound)
}

func (f Fixture) testFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		pull puller.Pull
		kind puller.ErrorKind
	}{
		{"no such tag", puller.Pull{Image: f.NoTag}, puller.ErrNotFound},
		{"no such repository", puller.Pull{Image: f.NoRepo}, puller.ErrNotFound},
		{"no credentials", puller.Pull{Image: f.Private}, puller.ErrDenied},
		{"wrong credentials", puller.Pull{Image: f.Private, Credentials: f.WrongCredentials}, puller.ErrDenied},
		{"registry down", puller.Pull{Image: f.Down}, puller.ErrRegistryUnavailable},
		{"rate limited", puller.Pull{Image: f.Limited}, puller.ErrRateLimited},
		{"corrupt layer", puller.Pull{Image: f.Corrupt}, puller.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.pull(t.Context(), c.pull)
			wantKind(t, err, c.kind)
			if _, err := f.inspect(t, c.pull.Image, ""); puller.KindOf(err) != puller.ErrNotFound {
				t.Errorf("a failed pull left an image: %v", err)
			}
		})
	}
}

func (f Fixture) testCredentials(t *testing.T) {
	if _, err := f.pull(t.Context(), puller.Pull{Image: f.Private, Credentials: f.Credentials}); err != nil {
		t.Fatal(err)
	}
	f.Remove(t, f.Private)
}

// Engines differ in their answer. The caller must be able to see the mismatch.
func (f Fixture) testPlatform(t *testing.T) {
	const other = "linux/arm64"
	_, err := f.pull(t.Context(), puller.Pull{Image: f.Good, Platform: other})
	if err != nil {
		wantKind(t, err, puller.ErrPlatformMismatch)
		return
	}
	image, err := f.inspect(t, f.Good, other)
	if err == nil && image.Platform == other {
		t.Errorf("an image for linux/amd64 is called one for %s", other)
	}
	f.Remove(t, f.Good)
}

func (f Fixture) testCancel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := f.Engine.Pull(ctx, puller.Pull{Image: f.Slow}, func(m pullstream.Message) {
		if m.Status == "Downloading" {
			cancel()
		}
	})
	wantKind(t, err, puller.ErrCanceled)
	until(t, func() bool { return !f.Pulling() }, "the engine goes on with a pull that was cancelled")
	if _, err := f.inspect(t, f.Slow, ""); puller.KindOf(err) != puller.ErrNotFound {
		t.Errorf("a cancelled pull left an image: %v", err)
	}
}

func (f Fixture) testCause(t *testing.T) {
	cause := puller.Errorf(puller.ErrOverloaded, "enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err := f.pull(ctx, puller.Pull{Image: f.Good})
	if !errors.Is(err, cause) {
		t.Errorf("a pull ended by a cause of our own returned %v", err)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	_, err = f.pull(late, puller.Pull{Image: f.Good})
	wantKind(t, err, puller.ErrTimeout)
}

func wantKind(t *testing.T, err error, kind puller.ErrorKind) {
	t.Helper()
	if got := puller.KindOf(err); got != kind {
		t.Errorf("the kind is %q, not %q: %v", got, kind, err)
	}
}

// until polls a condition that the engine makes true.
func until(t *testing.T, ok func() bool, otherwise string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	stop := time.After(limit)
	for !ok() {
		select {
		case <-tick.C:
		case <-stop:
			t.Fatal(otherwise)
		}
	}
}
