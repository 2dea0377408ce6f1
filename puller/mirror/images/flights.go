package images

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

// flight is a blob that is being fetched. One image at a time fetches it, or all that share
// it with the same hosts.
type flight struct {
	done     chan struct{} // closed when the blob is here, or was given up
	blob     *blobs.Blob
	registry string
	identity [sha256.Size]byte
	shared   bool
	users    int // of a shared one, which may be without any: the next image takes it over
}

// flights are the blobs that are being fetched. Its methods may be called from anywhere.
type flights struct {
	mu  sync.Mutex // taken before that of a blobs.Store
	all map[string]*flight
}

func newFlights() *flights { return &flights{all: make(map[string]*flight)} }

// claim returns those of some blobs that an identity is to fetch from a registry now, and
// the flights of those that others fetch. end must be called for its own.
func (f *flights) claim(registry string, identity [sha256.Size]byte, all []*blobs.Blob, shared bool) (mine []*blobs.Blob, others []*flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range all {
		if b.Whole() {
			continue
		}
		if other := f.all[b.Digest()]; other != nil {
			switch {
			case other.shared && shared && other.identity == identity && other.blob == b:
				other.users++
				mine = append(mine, b)
				continue
			case other.users > 0:
				others = append(others, other)
				continue
			}
			f.remove(other)
		}
		if !b.Granted(identity) {
			if b.Have() > 0 && b.Reset() != nil { // too little to compare
				continue
			}
			b.Grant(identity) // what comes is fetched with these credentials
		}
		f.all[b.Digest()] = &flight{done: make(chan struct{}), blob: b, registry: registry, identity: identity, shared: shared, users: 1}
		if shared {
			b.KeepWrong(true)
		}
		mine = append(mine, b)
	}
	return mine, others
}

// end says that blobs are fetched, or that who claimed them does not go on with them. Where
// that may go on soon, its flights stay until another one wants the blobs.
func (f *flights) end(mine []*blobs.Blob, soon bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range mine {
		mine := f.all[b.Digest()]
		if mine.users--; mine.users == 0 && (!soon || b.Whole()) {
			f.remove(mine)
		}
	}
}

// endUnused ends the flights of an identity that nobody goes on with.
func (f *flights) endUnused(identity [sha256.Size]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range f.all {
		if other.shared && other.users == 0 && other.identity == identity {
			f.remove(other)
		}
	}
}

// remove takes back the access to a blob that was not fetched whole: its bytes may not
// have been shown to the credentials, and another image may fetch it now. The lock is held.
func (f *flights) remove(of *flight) {
	if !of.blob.Whole() {
		of.blob.Revoke(of.identity)
	}
	if of.shared {
		of.blob.KeepWrong(false)
	}
	close(of.done)
	delete(f.all, of.blob.Digest())
}

// reset throws away what is there of a blob that is not whole and that nobody fetches:
// it may be that another registry sent something wrong. It reports whether it did.
func (f *flights) reset(b *blobs.Blob) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !b.Whole() && f.all[b.Digest()] == nil && b.Reset() == nil
}

const (
	// leastComes is how many bytes must come in slowFor of a blob that an image of another
	// registry fetches, for others to wait for it: callers choose their registries, and one
	// may send as good as nothing. It is longer than a registry is waited for that limits
	// the rate.
	leastComes = 1 << 20
	slowFor    = 45 * time.Second
	// mostWait is how long an image waits for other registries in all: one may send just
	// enough to be waited for until a pull's time is over.
	mostWait = 5 * time.Minute
)

// wait is how long a flight is waited for. Its zero value waits for none yet.
type wait struct {
	of    *flight
	have  int64 // bytes, then
	since time.Time
	begun time.Time // when another registry was waited for first
}

// check returns why a flight is not waited for any longer, nil if it is.
func (w *wait) check(f *flight, registry string) error {
	have, now := f.blob.Have(), time.Now()
	if w.of != f || have < w.have || have-w.have >= leastComes {
		w.of, w.have, w.since = f, have, now
	}
	if f.registry == registry {
		return nil
	}
	if w.begun.IsZero() {
		w.begun = now
	}
	switch {
	case now.Sub(w.begun) >= mostWait:
		return puller.Errorf(puller.ErrRegistryUnavailable, "another pull fetches %s from another registry, and has %d of %d bytes after %s", f.blob.Digest(), have, f.blob.Size(), mostWait)
	case now.Sub(w.since) < slowFor:
		return nil
	}
	return puller.Errorf(puller.ErrRegistryUnavailable, "another pull fetches %s from another registry, of which only %d bytes came in %s", f.blob.Digest(), have-w.have, slowFor)
}
