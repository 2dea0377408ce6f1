package prewarm

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/pull"
	"github.com/towline/towline/puller/retry"
)

// conflict is an image of a list that takes the name from one before it, for another
// platform: an engine with a graph driver keeps one platform under a name.
type conflict struct{ first, second int } // indexes in the list

// conflicts returns the images of a list that ask for another platform of a reference
// than an image before them. own is the engine's platform, "" where that is not known:
// then an image without a platform is in no conflict. Images for which counts returns
// false are left out.
func conflicts(l puller.Images, own string, counts func(i int) bool) (found []conflict) {
	first := make(map[string]int) // by names.EngineRef, where a platform is known
	for i, r := range l {
		platform := r.Platform
		if platform == "" {
			platform = own
		}
		if platform == "" || !counts(i) {
			continue
		}
		name := names.EngineRef(r.Image) // engines store no tag beside a digest
		j, known := first[name]
		if !known {
			first[name] = i
			continue
		}
		other := l[j].Platform
		if other == "" {
			other = own
		}
		if names.FullPlatform(other) != names.FullPlatform(platform) {
			found = append(found, conflict{j, i})
		}
	}
	return found
}

// err is why a prewarm can't have both.
func (c conflict) err(l puller.Images) error {
	platform := func(r puller.PullRequest) string {
		if r.Platform == "" {
			return "the engine's own platform"
		}
		return r.Platform
	}
	one, two := l[c.first], l[c.second]
	return puller.Errorf(puller.ErrConflict, "images[%d]: %s for %s, and images[%d] asks for it for %s: this engine keeps one platform under a name, so only the last could be had; ask for one of them, or name each by the digest of its own manifest",
		c.second, two.Image, platform(two), c.first, platform(one))
}

// conflictLimit is how long a prewarm's acceptance waits for the engine to say whether
// it keeps several platforms.
const conflictLimit = 5 * time.Second

// CheckPlatforms returns ErrConflict if the engine can't have all images of a list. An
// engine that does not answer is asked again when the prewarm begins.
func (e *Env) CheckPlatforms(l puller.Images) error {
	if !repeats(l) {
		return nil // as nearly always: there is nothing to ask the engine
	}
	ctx, cancel := context.WithTimeout(e.Context, conflictLimit)
	defer cancel()
	engine, err := e.Engine.Info(ctx)
	if err != nil {
		return nil
	}
	return checkConflicts(engine, l, all)
}

// repeats reports whether a reference is asked for with two platforms, or with one and
// without.
func repeats(l puller.Images) bool {
	platforms := make(map[string]string, len(l)) // by names.EngineRef
	for _, r := range l {
		name := names.EngineRef(r.Image)
		if other, known := platforms[name]; known && other != r.Platform {
			return true
		}
		platforms[name] = r.Platform
	}
	return false
}

// checkConflicts is CheckPlatforms for an engine that is known, and the images for which
// counts returns true.
func checkConflicts(e puller.EngineInfo, l puller.Images, counts func(i int) bool) error {
	if e.ImageStore == puller.StoreContainerd {
		return nil
	}
	if found := conflicts(l, e.Platform, counts); len(found) > 0 {
		return found[0].err(l)
	}
	return nil
}

func all(int) bool { return true }

// endConflicts ends those children with ErrConflict that would take the name from one
// before them. It waits for an engine that does not answer as long as a pull does.
func (w *Prewarm) endConflicts() {
	w.mu.Lock()
	children := append([]*pull.Pull(nil), w.children...)
	w.mu.Unlock()
	l := make(puller.Images, len(children))
	for i, p := range children {
		if p != nil { // else it has ended
			l[i] = p.Request()
		}
	}
	if !repeats(l) {
		return
	}
	engine, err := retry.Engine(w.env.Context, w.env.EngineTimeout, nil, func() (puller.EngineInfo, error) { return w.env.Engine.Info(w.env.Context) })
	if err != nil || engine.ImageStore == puller.StoreContainerd {
		return
	}
	for _, c := range conflicts(l, engine.Platform, all) {
		if p := children[c.second]; p != nil {
			p.Leave(c.err(l))
		}
	}
}
