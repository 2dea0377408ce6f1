package sets

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/definition"
	"github.com/towline/towline/puller/keep/index"
	"github.com/towline/towline/puller/names"
)

// table has the sets of a host by name. Its lock also guards what changes of the sets and of
// their images: who reads or changes that holds it. The table does no I/O.
type table struct {
	// saving is held for one change of a set, or one begin of a refresh, at a time, also while
	// that is saved. It is taken before mu.
	saving sync.Mutex

	mu     sync.Mutex
	all    map[string]*set
	byKey  index.Index    // names of sets, by Definition.Keys
	images int            // of all sets
	pinned map[string]pin // see pins; nil if it is to be made anew
	ended  chan struct{}  // closed when the next job has ended; nil while nobody waits for that
}

// awaitEnd returns a channel that is closed when the next job of a set has ended.
func (t *table) awaitEnd() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == nil {
		t.ended = make(chan struct{})
	}
	return t.ended
}

// tellEnd says that a job has ended. mu is held.
func (t *table) tellEnd() {
	if t.ended != nil {
		close(t.ended)
		t.ended = nil
	}
}

// get returns a set, or nil.
func (t *table) get(name string) *set {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[name]
}

// sorted returns all sets by name.
func (t *table) sorted() []*set {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*set, 0, len(t.all))
	for _, name := range slices.Sorted(maps.Keys(t.all)) {
		all = append(all, t.all[name])
	}
	return all
}

// hasRoom returns ErrOverloaded where there are as many sets, or images in them, as may be.
func (t *table) hasRoom(old *set, d *definition.Definition) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, images := len(t.all), t.images
	if old != nil {
		n, images = n-1, images-len(old.images)
	}
	switch {
	case n >= keep.MaxSets:
		return puller.Overloaded("there are %d sets, and at most %d are kept: delete some", n, keep.MaxSets)
	case images+len(d.Images) > keep.MaxSetImages:
		return puller.Overloaded("the other sets have %d images, and this one has %d: together they may have at most %d; delete some", images, len(d.Images), keep.MaxSetImages)
	}
	return nil
}

// put makes a set known, in the place of the one with its name.
func (t *table) put(one *set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(one)
}

// succeed puts a set in the place of an older one, which may be nil. It is due at once. saving
// is held.
func (t *table) succeed(one, old *set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one.inherit(old)
	one.due = one.When.Open(now())
	t.add(one)
}

// renew puts a set whose images are there in the place of an older one, which may be nil. It
// is due by its schedule. saving is held.
func (t *table) renew(one, old *set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one.inherit(old)
	if old != nil {
		one.job = old.job
	}
	one.plan(now())
	t.add(one)
}

// remove forgets a set.
func (t *table) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(name)
}

// add makes a set known, in the place of the one with its name. mu is held.
func (t *table) add(one *set) {
	t.drop(one.name)
	t.all[one.name] = one
	t.byKey.Add(one.name, one.Keys())
	t.images += len(one.images)
	t.pinned = nil
}

// drop forgets a set, if it is there. mu is held.
func (t *table) drop(name string) {
	one := t.all[name]
	if one == nil {
		return
	}
	delete(t.all, name)
	t.byKey.Remove(name, one.Keys())
	t.images -= len(one.images)
	t.pinned = nil
}

// due returns the sets whose refresh is to begin.
func (t *table) due() (all []*set) {
	at := now()
	for _, one := range t.sorted() {
		t.mu.Lock()
		if !one.due.IsZero() && !one.due.After(at) {
			if one.running || len(one.images) == 0 {
				one.due = one.When.Next(at) // the one that goes on counts for this one
			} else {
				all = append(all, one)
			}
		}
		t.mu.Unlock()
	}
	return all
}

// untilDue returns how long it is until a set is due.
func (t *table) untilDue() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := lookEvery
	at := now()
	for _, one := range t.all {
		if !one.due.IsZero() {
			wait = min(wait, max(one.due.Sub(at), time.Millisecond))
		}
	}
	return wait
}

// pin is the digest at which the fleet keeps a tag, for a set of its.
type pin struct{ set, digest string }

// pins returns what the fleet keeps tags at, by REPOSITORY:TAG. Of several sets with a tag, the
// first by name has it. mu is held.
func (t *table) pins() map[string]pin {
	if t.pinned == nil {
		t.pinned = make(map[string]pin)
		for name, one := range t.all {
			for tag, digest := range one.tags {
				if first, ok := t.pinned[tag]; !ok || name < first.set {
					t.pinned[tag] = pin{name, digest}
				}
			}
		}
	}
	return t.pinned
}

// request returns images as a job is to pull them: a tag at the digest at which the fleet keeps
// it. If a set followed it in the registry, the two would move it in turns. mu is held.
func (t *table) request(of []*image) (all puller.Images) {
	pins := t.pins()
	for _, i := range of {
		r := i.PullRequest
		if p, pinned := pins[r.Image]; pinned {
			r.Image, r.Policy = r.Image+"@"+p.digest, puller.PolicyMissing
		}
		all = append(all, r)
	}
	return all
}

// view returns a set in the form of the API. job is its refresh, if that goes on. mu is held.
func (t *table) view(one *set, job *puller.Job) keep.Set {
	v := one.view(job)
	pins := t.pins()
	for n := range v.Images {
		i := &v.Images[n]
		if p, pinned := pins[i.Image]; pinned && i.State == keep.SetPresent && i.Digest == p.digest {
			i.Reason = fmt.Sprintf("the set %s of the fleet keeps its name at this digest", p.set)
		}
	}
	return v
}

// holder returns the image of a set, and the set, that has the name of an image for another
// platform, or that a job pulls; nil for none. mu is held.
func (t *table) holder(i *image, listed string) (holder *image, set string) {
	key := names.EngineRef(i.Image)
	for _, name := range slices.Sorted(maps.Keys(t.byKey[key])) {
		for _, other := range t.all[name].images {
			if names.EngineRef(other.Image) == key && other.Platform != i.Platform && (other.busy || other.state == keep.SetPresent && other.listed == listed) {
				return other, name
			}
		}
	}
	return nil, ""
}

// counts returns how many images of each set are in each state.
func (t *table) counts() map[string]map[keep.SetState]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]map[keep.SetState]int)
	for name, one := range t.all {
		all[name] = one.view(nil).Counts
	}
	return all
}

// protections returns the sets that an image is in. See keep.Protector.
func (t *table) protections(id string, references []string) []keep.Protection {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make(map[string]bool)
	for _, key := range append([]string{id}, references...) {
		maps.Copy(found, t.byKey[key])
	}
	var all []keep.Protection
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, keep.Protection{Kind: keep.ProtectionSet, Name: name, Protects: *t.all[name].Protect})
	}
	return all
}
