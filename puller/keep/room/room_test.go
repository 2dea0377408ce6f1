package room_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep/room"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// engine has a disk, and images by their layers.
type engine struct {
	engines.Engine
	disk   *puller.Disk
	err    error
	store  string
	images []puller.Image
}

func (e *engine) Disk(context.Context) (*puller.Disk, error) {
	if e.err != nil || e.disk == nil {
		return nil, e.err
	}
	d := *e.disk
	return &d, nil
}

func (e *engine) Info(context.Context) (puller.EngineInfo, error) {
	return puller.EngineInfo{ImageStore: e.store, Platform: "linux/amd64"}, nil
}

func (e *engine) Storage(context.Context) (engines.Storage, error) {
	return engines.Storage{Images: e.images}, nil
}

// registry has images with layers of these sizes.
type registry struct {
	puller.Registry
	layers map[string][]int64
	counts bool             // manifests count against a limit
	kind   puller.ErrorKind // of its answer for others; it is away where this is empty
	asked  []puller.ManifestQuery
}

func (r *registry) Manifest(_ context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	r.asked = append(r.asked, q)
	sizes, ok := r.layers[q.Image]
	switch {
	case r.counts && q.Free:
		return puller.Manifest{}, &puller.Error{Kind: puller.ErrRateLimited, Err: puller.ErrCounts}
	case !ok && r.kind != "":
		return puller.Manifest{}, puller.Errorf(r.kind, "the registry says no")
	case !ok:
		return puller.Manifest{}, puller.Errorf(puller.ErrRegistryUnavailable, "the registry is away")
	}
	m := puller.Manifest{}
	for n, size := range sizes {
		m.Layers = append(m.Layers, puller.Blob{Digest: fmt.Sprintf("sha256:%d", n), Size: size})
		m.DiffIDs = append(m.DiffIDs, fmt.Sprintf("sha256:d%d", n))
	}
	return m, nil
}

const (
	mib  = 1 << 20
	gib  = 1 << 30
	good = "registry.test/good:v1"
)

type host struct {
	*testing.T
	*room.Admission
	engine   *engine
	registry *registry
	freed    []int64 // what Free was asked for
	gain     int64   // what it frees
	notices  []string
	records  store.Records
}

// newHost returns an Admission for a disk of 10 GiB with so many bytes free. good has two
// layers of 50 MiB, so that it needs 350 MiB.
func newHost(t *testing.T, free int64, change func(*room.Options)) *host {
	h := &host{T: t, engine: &engine{disk: &puller.Disk{Total: 10 * gib, Free: free}, store: "overlay2"}, registry: &registry{layers: map[string][]int64{good: {50 * mib, 50 * mib}}}}
	log := logrus.New()
	log.SetOutput(io.Discard)
	h.records = storetest.New().Records()
	o := room.Options{Engine: h.engine, Registry: h.registry, Records: h.records, Log: log}
	if change != nil {
		change(&o)
	}
	h.Admission = room.New(o)
	if err := h.Load(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) collects(o *room.Options) {
	o.Free = func(_ context.Context, bytes int64) (*puller.Disk, string, error) {
		h.freed = append(h.freed, bytes)
		h.engine.disk.Free += h.gain
		return h.engine.disk, "everything is in sets", nil
	}
}

func (h *host) admit(image string) (func(puller.Image), error) {
	h.Helper()
	return h.Admit(h.Context(), puller.Pull{Image: image}, func(m string) { h.notices = append(h.notices, m) })
}

// wantRefused wants a refusal that has these words.
func (h *host) wantRefused(words ...string) {
	h.Helper()
	_, err := h.admit(good)
	if puller.KindOf(err) != puller.ErrNoSpace {
		h.Fatalf("the error is %v", err)
	}
	for _, w := range append(words, "pull "+good+": ") {
		if !strings.Contains(err.Error(), w) {
			h.Errorf("%q has no %q", err, w)
		}
	}
}

func (h *host) wantAdmitted() func(puller.Image) {
	h.Helper()
	release, err := h.admit(good)
	if err != nil {
		h.Fatal(err)
	}
	return release
}

func TestAdmit(t *testing.T) {
	t.Run("fits", func(t *testing.T) {
		h := newHost(t, 350*mib, nil)
		h.wantAdmitted()(puller.Image{})
		if q := h.registry.asked[0]; q.Platform != "linux/amd64" || q.Free {
			t.Errorf("the registry was asked for %+v", q)
		}
	})
	t.Run("too little", func(t *testing.T) {
		newHost(t, 349*mib, nil).wantRefused("needs about 367MB", "104.9MB to fetch", "366MB of 10.74GB are free")
	})
	t.Run("reserve", func(t *testing.T) {
		reserve := func(o *room.Options) { o.Reserve = 512 * mib }
		newHost(t, 350*mib+512*mib, reserve).wantAdmitted()
		newHost(t, 349*mib+512*mib, reserve).wantRefused("536.9MB are reserved (keep.reserve)")
	})
	t.Run("reserve of a small disk", func(t *testing.T) { // is a tenth of it
		reserve := func(o *room.Options) { o.Reserve = 4 * gib }
		newHost(t, 350*mib+gib, reserve).wantAdmitted()
		newHost(t, 349*mib+gib, reserve).wantRefused("1.074GB are reserved")
	})
	t.Run("spool", func(t *testing.T) {
		spool := func(o *room.Options) { o.Spool = func(b []puller.Blob) int64 { return int64(len(b)) * 50 * mib } }
		newHost(t, 450*mib, spool).wantAdmitted()
		newHost(t, 449*mib, spool).wantRefused("471.9MB")
	})
	t.Run("layers present", func(t *testing.T) {
		h := newHost(t, 175*mib, nil)
		h.engine.images = []puller.Image{{ID: "1", DiffIDs: []string{"sha256:d1", "sha256:d0"}}, {ID: "2", DiffIDs: []string{"sha256:d0", "sha256:x"}}}
		h.wantAdmitted()
		h.engine.images = h.engine.images[:1] // the same layers on another base are others
		h.wantRefused("367MB")
	})
	t.Run("all present", func(t *testing.T) {
		h := newHost(t, 0, func(o *room.Options) { o.Reserve = gib })
		h.engine.images = []puller.Image{{ID: "1", DiffIDs: []string{"sha256:d0", "sha256:d1"}}}
		h.wantAdmitted()
	})
	t.Run("lying registry", func(t *testing.T) {
		h := newHost(t, 1*gib, nil)
		h.registry.layers[good] = []int64{1 << 49, 1 << 49}
		h.wantRefused("1.126PB to fetch")
	})
}

// What may be collected is collected before a pull is refused.
func TestCollects(t *testing.T) {
	t.Run("enough", func(t *testing.T) {
		h := &host{}
		*h = *newHost(t, 100*mib, func(o *room.Options) { h.collects(o) })
		h.gain = 250 * mib
		h.wantAdmitted()
		if len(h.freed) != 1 || h.freed[0] != 350*mib {
			t.Errorf("it had %v freed", h.freed)
		}
	})
	t.Run("too little", func(t *testing.T) {
		h := &host{}
		*h = *newHost(t, 100*mib, func(o *room.Options) { h.collects(o) })
		h.gain = 249 * mib
		h.wantRefused("366MB of 10.74GB are free", "everything is in sets")
	})
	t.Run("fails", func(t *testing.T) {
		h := newHost(t, 100*mib, func(o *room.Options) {
			o.Free = func(context.Context, int64) (*puller.Disk, string, error) {
				return nil, "", errors.New("the engine is busy")
			}
		})
		h.wantRefused("the engine is busy")
	})
}

// Pulls at the same time are counted together, and what one has taken already only once.
func TestTogether(t *testing.T) {
	h := newHost(t, 800*mib, nil)
	first, second := h.wantAdmitted(), h.wantAdmitted()
	h.wantRefused("of which other pulls need 734MB")
	h.engine.disk.Free -= 600 * mib // the two have taken it
	h.wantRefused("209.7MB of 10.74GB", "of which other pulls need 104.9MB")
	h.engine.disk.Free -= 100 * mib
	first(puller.Image{ID: "1"})
	h.wantRefused("104.9MB of 10.74GB are free")
	second(puller.Image{})
	h.engine.disk.Free = 350 * mib
	third := h.wantAdmitted()
	h.wantRefused("of which other pulls need 367MB")
	third(puller.Image{})
	h.wantAdmitted()
}

// A pull that fails gives its room back.
func TestFailedPull(t *testing.T) {
	h := newHost(t, 700*mib, nil)
	first, second := h.wantAdmitted(), h.wantAdmitted()
	first(puller.Image{})
	third := h.wantAdmitted()
	h.wantRefused()
	second(puller.Image{})
	third(puller.Image{})
	h.wantAdmitted()
}

// Where much is free, nobody is asked. Where something is not known, nothing is guessed.
func TestNotAsked(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*host)
		asked   int
		notices int
	}{
		"roomy":            {func(h *host) { h.engine.disk = &puller.Disk{Total: 1000 * gib, Free: 10 * gib} }, 0, 0},
		"less":             {func(h *host) { h.engine.disk = &puller.Disk{Total: 1000 * gib, Free: 9 * gib} }, 1, 0},
		"counts":           {func(h *host) { h.registry.counts = true; h.engine.disk = &puller.Disk{Total: 20 * gib, Free: 5 * gib} }, 1, 0},
		"counts and tight": {func(h *host) { h.registry.counts = true; h.engine.disk = &puller.Disk{Total: 20 * gib, Free: 3 * gib} }, 1, 0},
		"disk unknown":     {func(h *host) { h.engine.disk = nil }, 0, 0},
		"disk fails":       {func(h *host) { h.engine.err = errors.New("away") }, 0, 0},
		"registry away":    {func(h *host) { h.registry.layers = nil }, 1, 1},
		"denied":           {func(h *host) { h.registry.layers, h.registry.kind = nil, puller.ErrDenied }, 1, 0},
		"not found":        {func(h *host) { h.registry.layers, h.registry.kind = nil, puller.ErrNotFound }, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, gib, nil)
			c.change(h)
			h.wantAdmitted()(puller.Image{ID: "1", Size: 1})
			if len(h.registry.asked) != c.asked || len(h.notices) != c.notices {
				t.Errorf("the registry was asked %d times, and there are the notices %q", len(h.registry.asked), h.notices)
			}
		})
	}
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := puller.Errorf(puller.ErrCanceled, "enough")
		cancel(cause)
		if _, err := newHost(t, gib, nil).Admit(ctx, puller.Pull{Image: good}, func(string) {}); !errors.Is(err, cause) {
			t.Errorf("the error is %v", err)
		}
	})
}

// What other pulls take while images are removed is made again.
func TestTakenMeanwhile(t *testing.T) {
	for name, most := range map[string]int{"once": 1, "always": 100} {
		t.Run(name, func(t *testing.T) {
			var h *host
			h = newHost(t, 400*mib, func(o *room.Options) {
				o.Free = func(_ context.Context, bytes int64) (*puller.Disk, string, error) {
					h.freed = append(h.freed, bytes)
					h.engine.disk.Free = bytes
					if len(h.freed) <= most {
						h.engine.disk.Free -= 10 * mib // the first pull has taken that
					}
					return h.engine.disk, "", nil
				}
			})
			h.wantAdmitted()
			if most == 1 {
				h.wantAdmitted()
			} else {
				h.wantRefused()
			}
			if n := len(h.freed); n < 2 || n > 5 {
				t.Errorf("images were removed %d times", n)
			}
		})
	}
}

// What pulls have taken still counts as taken after a collection has made room.
func TestCollectsBeside(t *testing.T) {
	var h *host
	h = newHost(t, 400*mib, func(o *room.Options) {
		o.Free = func(_ context.Context, bytes int64) (*puller.Disk, string, error) {
			h.freed = append(h.freed, bytes)
			h.engine.disk.Free += 900 * mib
			return h.engine.disk, "", nil
		}
	})
	h.wantAdmitted() // 350 MiB of 400 are promised
	h.wantAdmitted() // of 1300, 700
	h.engine.disk.Free -= 350 * mib
	h.wantAdmitted() // of 950, 350 are promised
	if len(h.freed) != 1 {
		t.Errorf("room was made for %d", h.freed)
	}
}

// How much an image has unpacked is learned from those that came.
func TestRatio(t *testing.T) {
	for store, size := range map[string]int64{"overlay2": 800 * mib, puller.StoreContainerd: 900 * mib} {
		t.Run(store, func(t *testing.T) {
			h := newHost(t, 9*gib, nil)
			h.engine.store = store
			for range 30 {
				h.wantAdmitted()(puller.Image{ID: "1", Size: size})
			}
			h.engine.disk.Free = 890 * mib
			h.wantRefused("needs about 943.7MB")
			h.engine.disk.Free = 901 * mib
			h.wantAdmitted()(puller.Image{ID: "1", Size: -5})
			h.wantAdmitted()(puller.Image{ID: "1", Size: 1 << 60}) // an engine that lies changes little
			h.engine.disk.Free = 960 * mib
			h.wantAdmitted()
		})
	}
}

// Each image has a ratio of its own, and one that was not here yet has that of the store. Both
// are known again after a restart.
func TestRatioOfImage(t *testing.T) {
	const other, new = "registry.test/other:v1", "registry.test/new:v1"
	h := newHost(t, 9*gib, nil)
	h.registry.layers[other], h.registry.layers[new] = []int64{100 * mib}, []int64{100 * mib}
	for range 10 {
		release, err := h.admit(other)
		if err != nil {
			t.Fatal(err)
		}
		release(puller.Image{ID: "1", Size: 100 * mib})
	}
	h.wantAdmitted()(puller.Image{ID: "2", Size: 600 * mib})
	restarted := newHost(t, 9*gib, func(o *room.Options) { o.Records = h.records })
	restarted.registry.layers = h.registry.layers
	for image, free := range map[string]int64{good: 700, "registry.test/good:v2": 700, other: 200, new: 331} {
		restarted.registry.layers[image] = []int64{100 * mib}
		restarted.engine.disk.Free = free*mib - 1
		if release, err := restarted.admit(image); err == nil {
			release(puller.Image{})
			t.Errorf("%s has room in less than %d MiB", image, free)
		}
		restarted.engine.disk.Free = (free + 1) * mib
		release, err := restarted.admit(image)
		if err != nil {
			t.Errorf("%s: %v", image, err)
			continue
		}
		release(puller.Image{})
	}
}

func TestRatioDamaged(t *testing.T) {
	records := storetest.New().Records()
	if err := records.Save("unpack-ratio", map[string][]byte{"a": []byte("x"), "b": []byte(`{"ratio":-1}`), "c": []byte(`{"ratio":1e300}`), "d": []byte("null")}); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, 351*mib, func(o *room.Options) { o.Records = records })
	h.wantAdmitted()
}
