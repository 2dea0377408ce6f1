package sets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

const composeFile = `
services:
  web: {image: "registry.test/web:v1"}
  db: {image: "registry.test/db:v1"}
  built: {build: .}
x-towline: {schedule: "0 5 * * *", timezone: UTC, policy: missing, protect: false}
`

// reread waits until files that were written are read.
func (h *host) reread() {
	<-time.After(11 * time.Second)
	synctest.Wait()
}

// faults checks which files can't be used, and why.
func (h *host) faults(want map[string]string) {
	h.Helper()
	_, faults := h.Sets.Sets()
	for _, f := range faults {
		why, ok := want[filepath.Base(f.File)]
		if !ok || !strings.Contains(f.Error, why) {
			h.Errorf("%s: %s", f.File, f.Error)
		}
	}
	if len(faults) != len(want) {
		h.Errorf("%d files can't be used, not %d: %v", len(faults), len(want), faults)
	}
}

func TestFiles(t *testing.T) {
	withHost(t, func(h *host) {
		h.write("app.yaml", composeFile)
		h.write("list.yml", "name: other\nimages: [registry.test/db:v1]\nwindow: 22:00-06:00\ntimezone: UTC\n")
		h.write(".hidden.yaml", "nonsense")
		h.write("README", "nonsense")
		h.reread()
		h.refreshes(2)
		s, err := h.Set("app")
		if err != nil || s.Source != keep.SetFromFile || s.File != filepath.Join(h.dir, "app.yaml") || s.Policy != puller.PolicyMissing || s.Protect || len(s.Images) != 2 || len(s.Skipped) != 1 {
			h.Errorf("it is %+v, %v", s, err)
		}
		h.state("other", db, keep.SetPresent, "")
		h.faults(nil)
		_, putErr := h.PutSet("app", images(web))
		_, deleteErr := h.DeleteSet("app")
		for _, err := range []error{putErr, deleteErr} {
			if puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), "app.yaml") {
				h.Errorf("a call that changes it gives %v", err)
			}
		}
		h.crash(time.Minute)
		h.refreshes(2) // nothing has changed
		h.write("app.yaml", composeFile)
		h.reread()
		h.refreshes(2) // nor with another time of the file
		h.write("app.yaml", "images: [registry.test/web:v1]")
		h.reread()
		h.refreshes(3)
		h.state("app", web, keep.SetPresent, "")
		os.Remove(filepath.Join(h.dir, "app.yaml"))
		h.reread()
		if _, err := h.Set("app"); puller.KindOf(err) != puller.ErrNotFound || h.service.here[web] == "" {
			h.Errorf("the set of a file that is gone: %v", err)
		}
		h.put("app", images(web)) // now it may be
	})
}

func TestBadFiles(t *testing.T) {
	withHost(t, func(h *host) {
		h.put("called", images(web))
		h.write("good.yaml", "images: [registry.test/web:v1]")
		want := map[string]string{}
		for name, f := range map[string]struct{ content, fault string }{
			"a-never.yaml":    {"images: [registry.test/web:v1]\nschedule: 0 0 31 2 *", "schedule: "},
			"b-zone.yaml":     {"images: [registry.test/web:v1]\ntimezone: Europe/Atlantis", "timezone: "},
			"c-window.yaml":   {"images: [registry.test/web:v1]\nwindow: 05:00-05:00", "window: "},
			"d-field.yaml":    {"images: [registry.test/web:v1]\nschedul: x", "schedul: there is no such field"},
			"e-none.yaml":     {"schedule: '@daily'", "images: missing"},
			"f-empty.yaml":    {"", "images: missing"},
			"f-list.yaml":     {"images: []", "images: missing"},
			"g-yaml.yaml":     {"images: [", "not YAML"},
			"h-list.yaml":     {"- registry.test/web:v1", "not YAML with a mapping"},
			"i-types.yaml":    {"images: registry.test/web:v1", "images: not a list"},
			"j-image.yaml":    {"images: [No]", "images[0]: image: "},
			"k-keys.yaml":     {"images: [{1: 2}]", "a key that is no text"},
			"l-large.yaml":    {"#" + strings.Repeat("x", 300<<10), "larger than"},
			"m-both.yaml":     {"services: {web: {image: a}}\nx-towline: {images: [b]}", "x-towline: images: "},
			"n-variable.yaml": {"services: {web: {image: 'a:${TAG}'}}", "TAG"},
			"o-section.yaml":  {"services: {web: {image: a}}\nx-towline: [a]", "x-towline: "},
			"p-called.yaml":   {"name: called\nimages: [registry.test/web:v1]", "a call has made a set called"},
			"q-twice.yaml":    {"name: good\nimages: [registry.test/db:v1]", "the set good comes from"},
			"Upper.yaml":      {"images: [registry.test/web:v1]", "name: "},
			"learned.yaml":    {"images: [registry.test/web:v1]", "name: learned"},
		} {
			h.write(name, f.content)
			want[name] = f.fault
		}
		h.write("r-open.yaml", "images: [registry.test/web:v1]")
		os.Chmod(filepath.Join(h.dir, "r-open.yaml"), 0o666)
		want["r-open.yaml"] = "chmod go-w"
		os.Mkdir(filepath.Join(h.dir, "s-dir.yaml"), 0o755)
		want["s-dir.yaml"] = "it is no file"
		os.Chtimes(filepath.Join(h.dir, "s-dir.yaml"), time.Now(), time.Now())
		os.Symlink("t-loop.yaml", filepath.Join(h.dir, "t-loop.yaml"))
		want["t-loop.yaml"] = "too many levels of symbolic links"
		os.Symlink("nowhere", filepath.Join(h.dir, "u-dangling.yaml"))
		want["u-dangling.yaml"] = "no such file"
		h.write("v-utf8.yaml", "images: [\xff\xfe]")
		want["v-utf8.yaml"] = "not YAML"
		h.write("w-null.yaml", "images: null")
		want["w-null.yaml"] = "images: missing"
		h.write("x-many.yaml", "images: ["+strings.Repeat("registry.test/web:v1,", 5000)+"]")
		want["x-many.yaml"] = "images: 5000"
		h.write("y-bomb.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nimages: [*g,*g,*g,*g,*g,*g,*g,*g,*g]")
		want["y-bomb.yaml"] = ""
		h.reread()
		h.faults(want)
		h.state("good", web, keep.SetPresent, "")
		logged := h.log.Len()
		<-time.After(10 * time.Minute)
		if h.log.Len() != logged {
			h.Errorf("what does not change is logged again: %s", h.log.String()[logged:])
		}
		if _, err := h.DeleteSet("called"); err != nil {
			h.Fatal(err)
		}
		h.reread()
		if s, err := h.Set("called"); err != nil || s.Source != keep.SetFromFile {
			h.Errorf("the file of a name that is free again: %+v, %v", s, err)
		}
	})
}

func TestFileThatBecomesBad(t *testing.T) {
	withHost(t, func(h *host) {
		h.write("app.yaml", "images: [registry.test/web:v1]")
		h.reread()
		h.write("app.yaml", "images: [registry.test/web:v1")
		h.reread()
		h.faults(map[string]string{"app.yaml": "not YAML"})
		h.state("app", web, keep.SetPresent, "")
		h.write("app.yaml", "images: [registry.test/web:v1, registry.test/db:v1]")
		h.reread()
		h.faults(nil)
		h.state("app", db, keep.SetPresent, "")
	})
}
