package sets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

func TestSetOfFleet(t *testing.T) {
	withHost(t, func(h *host) {
		put := func(names ...string) {
			t.Helper()
			r := images(names...)
			r.Policy = puller.PolicyMissing
			if err := h.PutOfFleet("fleet.app", r, nil); err != nil {
				t.Fatal(err)
			}
		}
		ended := h.Ended()
		put(web)
		h.refreshes(1)
		select {
		case <-ended:
		default:
			h.Error("nobody is told that its job has ended")
		}
		h.state("fleet.app", web, keep.SetPresent, "")
		// Calls and files can't change it, or take its name.
		_, putErr := h.PutSet("fleet.app", images(db))
		_, otherErr := h.PutSet("fleet.other", images(db))
		for _, err := range []error{putErr, otherErr} {
			if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "name: ") {
				h.Errorf("a call that puts it gives %v", err)
			}
		}
		if _, err := h.DeleteSet("fleet.app"); puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), "the fleet has it") {
			h.Errorf("a call that deletes it gives %v", err)
		}
		h.write("fleet.file.yaml", "images: [registry.test/web:v1]")
		h.reread()
		h.faults(map[string]string{"fleet.file.yaml": "which is for the sets of a fleet"})
		os.Remove(filepath.Join(h.dir, "fleet.file.yaml"))
		// The fleet can't change what others have made.
		h.put("app", images(db))
		if err := h.PutOfFleet("app", images(db), nil); puller.KindOf(err) != puller.ErrInvalidRequest {
			h.Errorf("it gives %v", err)
		}
		if err := h.DeleteOfFleet("app"); puller.KindOf(err) != puller.ErrConflict {
			h.Errorf("it gives %v", err)
		}
		h.crash(time.Minute)
		if s, err := h.Set("fleet.app"); err != nil || s.Source != keep.SetFromFleet {
			h.Errorf("after a restart it is %+v, %v", s, err)
		}
		put(db)
		h.state("fleet.app", db, keep.SetPresent, "")
		if err := h.DeleteOfFleet("fleet.app"); err != nil {
			h.Error(err)
		}
		if err := h.DeleteOfFleet("fleet.app"); puller.KindOf(err) != puller.ErrNotFound {
			h.Errorf("it gives %v", err)
		}
		if p := h.Protections(digest("db 1"), []string{db}); len(p) != 1 || p[0].Name != "app" {
			h.Errorf("what it had is in %+v", p)
		}
	})
}
