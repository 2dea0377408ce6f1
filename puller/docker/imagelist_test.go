package docker_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
)

// stores runs a test on a scripted engine with each image store.
func stores(t *testing.T, test func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine)) {
	for name, use := range map[string]func(*enginetest.Engine){"graph": func(*enginetest.Engine) {}, "containerd": (*enginetest.Engine).UseContainerdStore} {
		t.Run(name, func(t *testing.T) {
			e, scripted := newEngine(t)
			use(scripted)
			test(t, e, scripted)
		})
	}
}

func images(t *testing.T, e *docker.Engine, shared bool) []engines.ImageSummary {
	t.Helper()
	list, err := e.Images(t.Context(), shared)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestImages(t *testing.T) {
	const one, two, old = "registry.test/one:v1", "registry.test/two:v1", "registry.test/old:v1"
	t.Run("sizes", func(t *testing.T) {
		stores(t, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine) {
			a, b := enginetest.NewImage(one, 1), enginetest.NewImage(two, 2)
			b.DiffIDs[0] = a.DiffIDs[0]
			scripted.Tag(one, a)
			scripted.Tag("registry.test/other:v1", a)
			scripted.Tag(two, b)
			got := make(map[string][2]int64)
			for _, i := range images(t, e, true) {
				got[strings.Join(i.Tags, " ")] = [2]int64{i.Size, *i.Unique}
			}
			want := map[string][2]int64{one + " registry.test/other:v1": {2000, 1000}, two: {2000, 1000}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("busy", func(t *testing.T) {
		e, scripted := newEngine(t)
		scripted.Tag(one, enginetest.NewImage(one, 1))
		scripted.SetBusy(true)
		if got := images(t, e, true); len(got) != 1 || got[0].Unique != nil {
			t.Errorf("it is %+v", got)
		}
	})
	t.Run("dangling", func(t *testing.T) {
		stores(t, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine) {
			scripted.Tag(old, enginetest.NewImage(old, 1))
			before := images(t, e, false)[0]
			scripted.Tag(old, enginetest.NewImage(old, 2))
			list := images(t, e, false)
			if len(list) != 2 {
				t.Fatalf("there are %+v", list)
			}
			for _, i := range list {
				if dangling := len(i.Tags)+len(i.Digests) == 0; dangling != (i.ID == before.ID) {
					t.Errorf("it is %+v", i)
				}
			}
			if err := e.RemoveImage(t.Context(), before.ID); err != nil || scripted.Has(before.ID) || !scripted.Has(old) {
				t.Errorf("there are %+v: %v", images(t, e, false), err)
			}
		})
	})
	t.Run("built", func(t *testing.T) {
		e, scripted := newEngine(t)
		base, child := enginetest.NewImage(one, 1), enginetest.NewImage(two, 2)
		scripted.Tag(one, base)
		scripted.Tag(two, child)
		scripted.MakeFrom(child.ID, base.ID)
		for _, i := range images(t, e, false) {
			if i.Parent != (i.ID == base.ID) {
				t.Errorf("it is %+v", i)
			}
		}
		if err := e.RemoveImage(t.Context(), one); puller.KindOf(err) != puller.ErrConflict || !scripted.Has(one) {
			t.Errorf("the error is %v", err)
		}
	})
}

// An engine's list may have anything in it.
func TestImagesHostile(t *testing.T) {
	id := "sha256:" + strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		body string
		want string // of the list, "" for an error
	}{
		"null":         {`null`, "[]"},
		"empty":        {`[]`, "[]"},
		"no fields":    {`[{}]`, ""},
		"bad ID":       {`[{"Id":"../../x"}]`, ""},
		"long ID":      {`[{"Id":"` + strings.Repeat("a", 1<<16) + `"}]`, ""},
		"null names":   {`[{"Id":"` + id + `","RepoTags":null,"RepoDigests":null,"SharedSize":-1,"Size":-5}]`, "[{ID:" + id + " Tags:[] Digests:[] Created:0001-01-01 00:00:00 +0000 UTC Size:0 Unique:<nil> Parent:false}]"},
		"twice":        {`[{"Id":"` + id + `","RepoTags":["a:1"],"SharedSize":-1},{"Id":"` + id + `","RepoTags":["a:1","b:1"],"SharedSize":-1}]`, "[{ID:" + id + " Tags:[docker.io/library/a:1 docker.io/library/b:1] Digests:[] Created:0001-01-01 00:00:00 +0000 UTC Size:0 Unique:<nil> Parent:false}]"},
		"strange name": {`[{"Id":"` + id + `","RepoTags":["A B"],"SharedSize":-1}]`, "[{ID:" + id + " Tags:[A B] Digests:[] Created:0001-01-01 00:00:00 +0000 UTC Size:0 Unique:<nil> Parent:false}]"},
		"own parent":   {`[{"Id":"` + id + `","ParentId":"` + id + `"}]`, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newHTTPEngine(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/images/json"):
					fmt.Fprint(w, c.body)
				case strings.HasSuffix(r.URL.Path, "/system/df"):
					fmt.Fprint(w, `{"Images":[null]}`)
				}
			})
			list, err := e.Images(t.Context(), true)
			if c.want == "" {
				if puller.KindOf(err) != puller.ErrInternal {
					t.Errorf("the error is %v, of %+v", err, list)
				}
				return
			}
			if got := fmt.Sprintf("%+v", list); err != nil || got != c.want {
				t.Errorf("the list is %s: %v", got, err)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e, scripted := newEngine(t)
			var got []engines.Event
			err := e.Events(t.Context(), time.Time{}, func(v engines.Event) {
				if got = append(got, v); len(got) > 2 {
					scripted.Kill()
					return
				}
				scripted.AddEvent("pull", "alpine:3", "alpine")
			})
			if puller.KindOf(err) != puller.ErrTruncated || len(got) != 3 || got[1].Action != "pull" {
				t.Errorf("it ends with %v after %+v", err, got)
			}
			if err := e.Events(t.Context(), time.Time{}, func(engines.Event) {}); puller.KindOf(err) != puller.ErrEngineUnavailable {
				t.Errorf("the error is %v", err)
			}
		})
	})
	t.Run("frozen", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e, scripted := newEngine(t)
			if _, err := e.Info(t.Context()); err != nil {
				t.Fatal(err)
			}
			scripted.Freeze()
			began := time.Now()
			err := e.Events(t.Context(), time.Time{}, func(engines.Event) { t.Error("there is an event") })
			if took := time.Since(began); puller.KindOf(err) != puller.ErrEngineUnavailable || took != 30*time.Second {
				t.Errorf("after %v the error is %v", took, err)
			}
		})
	})
	for name, c := range map[string]struct {
		body string
		kind puller.ErrorKind
		want int // events
	}{
		"empty":     {"", puller.ErrTruncated, 1},
		"no object": {"[]\n", puller.ErrTruncated, 1},
		"no fields": {"{}\n", puller.ErrTruncated, 1},
		"long":      {`{"Type":"` + strings.Repeat("a", 2<<20), puller.ErrTruncated, 1},
		"other":     {`{"Type":"network","Action":"create"}` + "\n" + `{"Type":"image","Action":"pull"}` + "\n", puller.ErrTruncated, 2},
	} {
		t.Run(name, func(t *testing.T) {
			e := newHTTPEngine(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, c.body) })
			n := 0
			err := e.Events(t.Context(), time.Time{}, func(engines.Event) { n++ })
			if puller.KindOf(err) != c.kind || n != c.want {
				t.Errorf("the error is %v after %d events", err, n)
			}
		})
	}
}
