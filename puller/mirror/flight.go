package mirror

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
)

// flight is a blob that is being fetched. One pull at a time fetches it, or all that share it
// with the same hosts.
type flight struct {
	done     chan struct{} // closed when the blob is here, or was given up
	blob     *blobs.Blob
	identity [sha256.Size]byte
	shared   bool
	users    int // of a shared one, which may be without any: the next pull takes it over
}

// gather is how long a fetch waits for the engine to name the layers that it lacks, so
// that they are fetched from the base up.
const gather = 5 * time.Millisecond

// want has a blob fetched.
func (p *pull) want(digest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted[digest] || p.ctx.Err() != nil {
		return
	}
	p.wanted[digest] = true
	if p.fetching {
		return
	}
	p.fetching = true
	p.work.Go(func() {
		select {
		case <-time.After(gather):
		case <-p.ctx.Done():
		}
		p.mu.Lock()
		p.fetching = false
		list := p.list()
		p.mu.Unlock()
		switch err := p.fetch(list); {
		case err == nil && p.arrived != nil:
			p.arrived()
		case err != nil && p.ctx.Err() == nil:
			p.fail(err)
		}
	})
}

// list returns the digests of the blobs that are wanted, from the base up. The lock is
// held.
func (p *pull) list() (all []string) {
	for _, b := range p.order {
		if p.wanted[b.Digest] && !slices.Contains(all, b.Digest) {
			all = append(all, b.Digest)
		}
	}
	for digest := range p.wanted {
		if !slices.Contains(all, digest) {
			all = append(all, digest)
		}
	}
	return all
}

// fetch returns when all blobs of a list are here, and the pull's credentials have access
// to them.
func (p *pull) fetch(list []string) error {
	var all []*blobs.Blob
	for _, digest := range list {
		open, err := p.blob(digest)
		if err != nil {
			return err
		}
		all = append(all, open)
	}
	for {
		if err := p.verify(all); err != nil {
			return err
		}
		if err := p.prove(all); err != nil {
			return err
		}
		mine, others := p.claim(all)
		if len(mine) > 0 {
			err := p.fetchOwn(mine)
			p.endFlights(mine, false)
			if err != nil {
				return err
			}
			continue
		}
		if len(others) == 0 {
			if p.mayHave(all) {
				return nil
			}
			continue // another pull has fetched some since prove looked
		}
		select {
		case <-others[0].done:
		case <-time.After(lookEvery): // a part of what another pull fetches may be compared by now
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
}

// mayHave reports whether the pull's credentials have access to all of some blobs.
func (p *pull) mayHave(all []*blobs.Blob) bool {
	return !slices.ContainsFunc(all, func(b *blobs.Blob) bool { return !b.Granted(p.identity) })
}

// lookEvery is how often a blob that another pull fetches is looked at.
const lookEvery = 50 * time.Millisecond

// verify waits for the digests of blobs that are there from an earlier start. One that
// is wrong is missing after it.
func (p *pull) verify(all []*blobs.Blob) error {
	for _, b := range all {
		if b.Whole() || len(b.Missing()) > 0 {
			continue
		}
		err := b.Verify(p.ctx)
		if kind := puller.KindOf(err); err != nil && kind != puller.ErrCorrupt && kind != puller.ErrTruncated {
			return err
		}
	}
	return nil
}

// claim returns those of some blobs that the pull is to fetch now, and the flights of
// those that others fetch.
func (p *pull) claim(all []*blobs.Blob) (mine []*blobs.Blob, others []*flight) {
	m := p.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range all {
		if b.Whole() {
			continue
		}
		if f := m.flights[b.Digest()]; f != nil {
			switch {
			case f.shared && p.shared != nil && f.identity == p.identity && f.blob == b:
				f.users++
				mine = append(mine, b)
				continue
			case f.users > 0:
				others = append(others, f)
				continue
			}
			m.endFlight(f)
		}
		if !b.Granted(p.identity) {
			if b.Have() > 0 && b.Reset() != nil { // too little to compare
				continue
			}
			b.Grant(p.identity) // what comes is fetched with these credentials
		}
		m.flights[b.Digest()] = &flight{done: make(chan struct{}), blob: b, identity: p.identity, shared: p.shared != nil, users: 1}
		if p.shared != nil {
			b.KeepWrong(true)
		}
		mine = append(mine, b)
	}
	return mine, others
}

// endFlights says that blobs are fetched, or that this pull does not go on with them. Where
// it may go on soon, its flights stay until another pull wants the blobs.
func (p *pull) endFlights(mine []*blobs.Blob, soon bool) {
	m := p.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range mine {
		f := m.flights[b.Digest()]
		if f.users--; f.users == 0 && (!soon || b.Whole()) {
			m.endFlight(f)
		}
	}
}

// endFlight takes back the access to a blob that was not fetched whole: its bytes may not
// have been shown to the credentials, and another pull may fetch it now. The lock is held.
func (m *Mirror) endFlight(f *flight) {
	if !f.blob.Whole() {
		f.blob.Revoke(f.identity)
	}
	if f.shared {
		f.blob.KeepWrong(false)
	}
	close(f.done)
	delete(m.flights, f.blob.Digest())
}

// count counts bytes that have come from the registry.
func (p *pull) count(n int) {
	p.mirror.metrics.fromRegistry.Add(float64(n))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched += int64(n)
}

// fetchOwn fetches blobs from the registry, or with the hosts that share the image.
func (p *pull) fetchOwn(mine []*blobs.Blob) error {
	if p.shared != nil {
		return p.fetchShared(mine)
	}
	work := fetch.Work{Repository: p.repo, Registry: p.registry, Progress: p.count, CoolDown: p.request.Busy}
	for _, b := range mine {
		work.Sinks = append(work.Sinks, sink{b, p.below(b.Digest())})
	}
	err := p.mirror.fetcher.Fetch(p.ctx, work)
	rate := p.mirror.fetcher.Rate(p.registry)
	p.mirror.links.note(p.registry, rate.Bytes, rate.One, rate.All)
	return err
}

// sink is a blob as the fetcher knows it.
type sink struct {
	*blobs.Blob
	below int
}

func (s sink) Below() int { return s.below }

// below returns how many layers of the image are below a layer.
func (p *pull) below(digest string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.order {
		if b.Digest == digest {
			return max(0, i-1)
		}
	}
	return 0
}

func (s sink) Missing() []fetch.Range {
	missing := s.Blob.Missing()
	ranges := make([]fetch.Range, len(missing))
	for i, r := range missing {
		ranges[i] = fetch.Range(r)
	}
	return ranges
}

// blob returns a blob of the pull, which stays in use until the pull is over.
func (p *pull) blob(digest string) (*blobs.Blob, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, listed := p.sizes[digest]
	if !listed || p.blobs == nil {
		return nil, errUnlisted(digest)
	}
	if open := p.blobs[digest]; open != nil {
		return open, nil
	}
	open, err := p.mirror.store.Acquire(digest, size)
	if err == nil {
		p.blobs[digest] = open
	}
	return open, err
}
