package room

import (
	"context"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// want is what a pull brings.
type want struct {
	store    string // the engine's image store
	image    string // the repository
	manifest puller.Manifest
	present  int   // how many of its layers the engine has, from the lowest
	spool    int64 // bytes that Towline stores on the same disk
}

// ask asks the registry what a pull brings, with free only if that costs nothing.
func (a *Admission) ask(ctx context.Context, p puller.Pull, free bool) (want, error) {
	info, err := a.opts.Engine.Info(ctx)
	if err != nil {
		return want{}, err
	}
	q := puller.ManifestQuery{Image: p.Image, Platform: p.Platform, Credentials: p.Credentials, Free: free}
	if q.Platform == "" {
		q.Platform, q.OSVersion = info.Platform, info.OSVersion
	}
	m, err := a.opts.Registry.Manifest(ctx, q)
	w := want{store: info.ImageStore, image: names.ParseName(p.Image).Repository, manifest: m}
	if err == nil {
		a.addSpool(&w)
	}
	return w, err
}

func (a *Admission) addSpool(w *want) {
	if a.opts.Spool != nil {
		w.spool = max(a.opts.Spool(w.missing()), 0)
	}
}

// missing returns the layers that are to be fetched.
func (w want) missing() []puller.Blob {
	return w.manifest.Layers[min(w.present, len(w.manifest.Layers)):]
}

// fetch returns how many bytes are to be fetched.
func (w want) fetch() int64 { return sum(w.missing()) }

// size returns how many bytes the whole image has, compressed.
func (w want) size() int64 { return sum(w.manifest.Layers) }

func sum(blobs []puller.Blob) (n int64) {
	for _, b := range blobs {
		n += b.Size
	}
	return n
}

// leaveOutPresent looks which layers the engine has. An engine keeps an unpacked layer
// with those below it, so only the same lowest layers count.
func (a *Admission) leaveOutPresent(ctx context.Context, w *want) error {
	if len(w.manifest.DiffIDs) != len(w.manifest.Layers) {
		return nil
	}
	storage, err := a.opts.Engine.Storage(ctx)
	if err != nil {
		return err
	}
	for _, i := range storage.Images {
		n := 0
		for n < len(i.DiffIDs) && n < len(w.manifest.DiffIDs) && i.DiffIDs[n] == w.manifest.DiffIDs[n] {
			n++
		}
		w.present = max(w.present, n)
	}
	a.addSpool(w)
	return nil
}

// bytes returns what a pull takes of the disk at its highest: all stores have the fetched
// layers beside the unpacked ones, at least until the end. The lock is held.
func (a *Admission) bytes(w want) int64 {
	fetch := w.fetch()
	return fetch + int64(a.ratios.of(w.store, w.image)*float64(fetch)) + w.spool
}

// rooms is the room that was promised to pulls that have not ended. A pull takes its room
// little by little. What the disk has lost since the first of them began counts as taken
// by them.
type rooms struct {
	pulls int
	held  int64 // bytes
	base  int64 // bytes that were free before any of it was taken
}

func (r *rooms) add(bytes, free int64) {
	if r.pulls == 0 {
		r.held, r.base = 0, free
	}
	r.pulls++
	r.held += bytes
}

// gain notes that a collection has made room, so that what pulls have taken still shows.
func (r *rooms) gain(bytes int64) {
	if r.pulls > 0 {
		r.base += max(bytes, 0)
	}
}

// remove ends the room of one. What that had is taken to be what it needed.
func (r *rooms) remove(bytes, free int64) {
	r.pulls--
	r.held -= bytes
	r.base = max(r.base-bytes, free)
}

// outstanding returns how much of what is free is promised.
func (r *rooms) outstanding(free int64) int64 {
	if r.pulls == 0 {
		return 0
	}
	taken := min(max(r.base-free, 0), r.held)
	return r.held - taken
}
