package keep_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// Sets, by a call and by a file, and leases, by a call and by a job, hold against a collection
// that removes all it may, also after a kill. What somebody else removes comes again, a tag
// that moves is followed, and what nothing protects any more may go.
func TestSetsAndLeases(t *testing.T) {
	dir, err := os.MkdirTemp(site.dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("keep: {collect: own, high: 99%%, low: 1%%, reserve: 0MiB, min_age: 0s, interval: 1h, sets_dir: %q}\n", dir)
	s := newSmall(t, config)
	refs := make(map[string]string)
	for _, name := range []string{"api", "moved", "file", "leased", "plain"} {
		refs[name] = s.publish("kept/"+name, 2)
	}
	refs["job"] = s.publish("kept/job", 8) // alone it is more than keep.low
	file := filepath.Join(dir, "web.yaml")
	if err := os.WriteFile(file, []byte("images: ["+refs["file"]+"]\npolicy: missing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Sets().Put(t.Context(), "app", client.SetRequest{Images: []client.PullRequest{{Image: refs["api"]}, {Image: refs["moved"]}}, Schedule: "@every 1m"}); err != nil {
		t.Fatal(err)
	}
	s.untilPresent("app", 2)
	s.untilPresent("web", 1)
	for _, name := range []string{"leased", "plain"} {
		if err := s.pull(refs[name], puller.PolicyMissing); err != nil {
			t.Fatal(err)
		}
	}
	lease, err := s.client.Leases().Add(t.Context(), client.LeaseRequest{Images: []string{refs["leased"]}, TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	job, err := s.client.Pull(t.Context(), client.PullRequest{Image: refs["job"], Lease: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	s.collects(refs["plain"])

	s.towline.Kill()
	s.client.Close()
	s.start(config)
	s.untilPresent("app", 2)
	s.untilPresent("web", 1)
	s.collects()

	// Somebody removes one image, and another one's tag moves, whose digest another set pins.
	there, _, err := s.client.Images().List(t.Context(), keep.ImageFilter{Image: refs["moved"]})
	if err != nil || len(there) != 1 {
		t.Fatalf("there are %+v: %v", there, err)
	}
	if _, err := s.client.Sets().Put(t.Context(), "pinned", client.SetRequest{Images: []client.PullRequest{{Image: refs["moved"] + "@" + there[0].Digest}}}); err != nil {
		t.Fatal(err)
	}
	s.untilPresent("pinned", 1)
	old, err := s.engine.ImageID(t.Context(), refs["moved"])
	if err == nil {
		err = s.engine.RemoveImage(t.Context(), refs["api"])
	}
	if err != nil {
		t.Fatal(err)
	}
	s.publish("kept/moved", 2)
	s.until(func(ctx context.Context) error {
		id, err := s.engine.ImageID(ctx, refs["moved"])
		switch {
		case err != nil:
			return err
		case !s.has(refs["api"]):
			return errors.New("what was removed has not come again")
		case id == old:
			return errors.New("the tag that has moved is not followed")
		}
		return nil
	})
	s.untilPresent("app", 2)
	s.until(func(ctx context.Context) error {
		page, _, err := s.client.Images().History(ctx, keep.HistoryFilter{Image: refs["api"]})
		if err == nil && !slices.ContainsFunc(page, func(e puller.Event) bool {
			return e.Image.Action == puller.ImageRestored && e.Image.Set == "app" && e.Image.Job != ""
		}) {
			err = fmt.Errorf("of the image that came again is told %+v", page)
		}
		return err
	})
	s.collects()
	s.untilPresent("pinned", 1)
	if _, err := s.client.Sets().Delete(t.Context(), "pinned"); err != nil {
		t.Fatal(err)
	}
	s.collects(old)

	// What nothing protects any more.
	if _, err := s.client.Sets().Delete(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.until(func(ctx context.Context) error {
		if _, err := s.client.Sets().Get(ctx, "web"); puller.KindOf(err) != puller.ErrNotFound {
			return fmt.Errorf("the set whose file is gone is there: %w", err)
		}
		return nil
	})
	if !s.has(refs["api"]) || !s.has(refs["file"]) {
		t.Error("the end of a set has removed its images")
	}
	s.collects(refs["api"], refs["moved"], refs["file"])
	if _, err := s.client.Leases().End(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	s.collects(refs["leased"])
	leases, _, err := s.client.Leases().List(t.Context(), keep.LeaseFilter{Job: job.ID})
	if err != nil || len(leases) != 1 {
		t.Fatalf("the job has the leases %+v: %v", leases, err)
	}
	if _, err := s.client.Leases().End(t.Context(), leases[0].ID); err != nil {
		t.Fatal(err)
	}
	s.collects(refs["job"])
	page, _, err := s.client.Images().History(t.Context(), keep.HistoryFilter{})
	removed := 0
	for _, e := range page {
		if e.Image.Action == puller.ImageRemoved {
			removed++
		}
	}
	if err != nil || removed != 7 {
		t.Errorf("of 7 removals %d are told: %+v, %v", removed, page, err)
	}
}

// until waits until ok returns nil.
func (s *small) until(ok func(context.Context) error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 4*time.Minute)
	defer cancel()
	if err := lab.Poll(ctx, 200*time.Millisecond, ok); err != nil {
		s.Fatal(err)
	}
}

// untilPresent waits until all images of a set are there, and no refresh goes on.
func (s *small) untilPresent(set string, images int) {
	s.Helper()
	s.until(func(ctx context.Context) error {
		v, err := s.client.Sets().Get(ctx, set)
		if err == nil && (v.Counts[keep.SetPresent] != images || v.Refreshes) {
			err = fmt.Errorf("the set is %+v", v)
		}
		return err
	})
}

// collects has all removed that may be, which must be these.
func (s *small) collects(want ...string) {
	s.Helper()
	done, err := s.client.Images().Collect(s.Context(), false)
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for _, r := range done.Removed {
		got = append(got, append(r.Names, r.ID)[0])
	}
	for n, name := range got {
		if slices.Contains(want, done.Removed[n].ID) {
			got[n] = done.Removed[n].ID
		} else {
			got[n] = name
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("removed are %q, not %q; %+v", got, want, done)
	}
}
