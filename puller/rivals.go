package puller

import (
	"context"
	"slices"
	"time"
)

// storeContainerd is the image store that keeps several platforms under one name.
const StoreContainerd = "containerd"

// rival is an image of a list that takes the name from one before it.
type rival struct{ first, second int } // indexes in the list

// rivals returns the images of a list that ask for another platform of a reference
// than an image before them. own is the engine's platform, "" where that is not known:
// then what names no platform is no rival.
// Images that counts is not true of are passed over.
func (l Images) rivals(own string, counts func(i int) bool) (found []rival) {
	first := make(map[string]int) // by inspectRef, where a platform is known
	for i, r := range l {
		platform := r.Platform
		if platform == "" {
			platform = own
		}
		if platform == "" || !counts(i) {
			continue
		}
		name := EngineRef(r.Image) // engines store no tag beside a digest
		j, known := first[name]
		if !known {
			first[name] = i
			continue
		}
		other := l[j].Platform
		if other == "" {
			other = own
		}
		if FullPlatform(other) != FullPlatform(platform) {
			found = append(found, rival{j, i})
		}
	}
	return found
}

// err is why a prewarm can't have both.
func (v rival) err(l Images) error {
	platform := func(r PullRequest) string {
		if r.Platform == "" {
			return "the engine's own platform"
		}
		return r.Platform
	}
	one, two := l[v.first], l[v.second]
	return Errorf(ErrConflict, "images[%d]: %s for %s, and images[%d] asks for it for %s: this engine keeps one platform under a name, so only the last could be had; ask for one of them, or name each by the digest of its own manifest",
		v.second, two.Image, platform(two), v.first, platform(one))
}

// rivalsLimit is how long a prewarm's acceptance waits for the engine to say whether
// it keeps several platforms.
const rivalsLimit = 5 * time.Second

// checkRivals returns ErrConflict if the engine can't have all images of a list. An
// engine that does not answer is asked again when the prewarm begins.
func (p *Puller) checkRivals(l Images) error {
	if !l.doubled() {
		return nil // as nearly always: there is nothing to ask the engine
	}
	ctx, cancel := context.WithTimeout(p.ctx, rivalsLimit)
	defer cancel()
	engine, err := p.engine.Info(ctx)
	if err != nil {
		return nil
	}
	return engine.checkRivals(l, all)
}

// doubled reports whether a reference is asked for with two platforms, or with one and
// without.
func (l Images) doubled() bool {
	platforms := make(map[string]string, len(l)) // by inspectRef
	for _, r := range l {
		name := EngineRef(r.Image)
		if other, known := platforms[name]; known && other != r.Platform {
			return true
		}
		platforms[name] = r.Platform
	}
	return false
}

// checkRivals is the same for an engine that is known, and those images that counts
// is true of.
func (e EngineInfo) checkRivals(l Images, counts func(i int) bool) error {
	if e.ImageStore == StoreContainerd {
		return nil
	}
	if found := l.rivals(e.Platform, counts); len(found) > 0 {
		return found[0].err(l)
	}
	return nil
}

// endRivals ends those children of a prewarm with ErrConflict that would take the name
// from one before them. It waits for an engine that is away as long as a pull does.
func (p *Puller) endRivals(b *batch) {
	p.mu.Lock()
	children := slices.Clone(b.children)
	l := make(Images, len(children))
	for i, j := range children {
		if j != nil { // else it has ended
			l[i] = j.request
		}
	}
	p.mu.Unlock()
	if !l.doubled() {
		return
	}
	began := time.Now()
	engine, err := p.engine.Info(p.ctx)
	for wait := leastEngineWait; KindOf(err) == ErrEngineUnavailable; wait = min(2*wait, mostEngineWait) {
		if limit := p.opts.FirstByteTimeout; limit > 0 && time.Since(began) >= limit || sleep(p.ctx, wait) != nil {
			break
		}
		engine, err = p.engine.Info(p.ctx)
	}
	if err != nil || engine.ImageStore == StoreContainerd {
		return
	}
	for _, v := range l.rivals(engine.Platform, all) {
		if j := children[v.second]; j != nil {
			p.leave(j, v.err(l))
		}
	}
}

func all(int) bool { return true }
