package peers

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/tree"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/sharing"
)

// atATime is how many chunks a fetch brings at a time, in their order, those of the
// registry among those of hosts. So no host brings chunks long before the others take
// them: what nobody has taken yet is lost with the host. And a layer is whole, and unpacked,
// while the next ones come.
const atATime = 16

// chunk is a chunk of a blob that an image lists.
type chunk struct {
	image sharing.Image
	blob  sharing.Blob
	index int
}

func (c chunk) key() string { return c.blob.Digest() + "/" + strconv.Itoa(c.index) }

// Fetch implements sharing.Peers.
func (n *Node) Fetch(ctx context.Context, i sharing.Image, all []sharing.Blob, from sharing.Source, p sharing.Progress) error {
	n.await(ctx, i)
	var list []chunk
	left := make(map[string]*atomic.Int64, len(all)) // chunks of a blob, by digest
	for _, b := range all {
		left[b.Digest()] = new(atomic.Int64)
		for index := range chunks(b.Size(), n.o.Chunk) {
			if _, ok := missing(b.Blob, rangeOf(b.Size(), n.o.Chunk, index)); ok {
				left[b.Digest()].Add(1)
				list = append(list, chunk{i, b, index})
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range all {
		if left[b.Digest()].Load() == 0 {
			group.Go(func() error { return n.settle(ctx, i, b, from, p) })
		}
	}
	var next atomic.Int64
	for range min(atATime, len(list)) {
		group.Go(func() error {
			for ctx.Err() == nil {
				at := int(next.Add(1)) - 1
				if at >= len(list) {
					break
				}
				c := list[at]
				if err := n.take(ctx, c, from, p.Taken); err != nil {
					return err
				}
				if left[c.blob.Digest()].Add(-1) == 0 {
					if err := n.settle(ctx, i, c.blob, from, p); err != nil {
						return err
					}
				}
			}
			return context.Cause(ctx)
		})
	}
	return group.Wait()
}

// brings reports whether this host is the one that asks the registry for a chunk, or for a
// manifest.
func (n *Node) brings(i sharing.Image, digest string, index int) bool {
	g, ok := n.o.Groups.Group(i.Repository, i.Digest)
	if ok {
		_, ok = tree.Parent(g.Members, g.Self, tree.Seed(digest, index), n.standing.Avoids)
	}
	return !ok
}

// take returns when a chunk is here, right or wrong.
func (n *Node) take(ctx context.Context, c chunk, from sharing.Source, taken func(int)) error {
	of := rangeOf(c.blob.Size(), n.o.Chunk, c.index)
	return n.flights.do(ctx, c.key(), func(ctx context.Context) error {
		return n.bring(ctx, want{
			image: c.image, key: c.key(), seed: tree.Seed(c.blob.Digest(), c.index),
			there: func() bool { _, ok := missing(c.blob.Blob, of); return !ok },
			try: func(ctx context.Context, g fleet.Group, m fleet.Member, only bool) (int64, error) {
				r, ok := missing(c.blob.Blob, of)
				if !ok {
					return 0, nil
				}
				got, err := n.askChunk(ctx, g, m, c, r, only, taken)
				if got > 0 {
					n.givers.note(c.blob.Digest(), c.index, m.Host)
				}
				return got, err
			},
			registry: func(ctx context.Context) error {
				return from.Fetch(ctx, c.blob.Blob, of)
			},
		})
	})
}

// askChunk asks a host for a range of a chunk, and keeps what comes.
func (n *Node) askChunk(ctx context.Context, g fleet.Group, m fleet.Member, c chunk, r blobs.Range, only bool, taken func(int)) (int64, error) {
	q := wire.Question{Group: g, To: m, Image: c.image, Manifest: c.blob.Manifest, Digest: c.blob.Digest(), Only: only}
	return n.client.Chunk(ctx, q, c.index, r, c.blob, func(k int) {
		n.metrics.taken.Add(float64(k))
		if taken != nil {
			taken(k)
		}
	})
}

// givers remember which host gave chunks of blobs that are not proven yet. Its methods may
// be called from anywhere.
type givers struct {
	mu  sync.Mutex
	all map[string]map[int]string // by digest and index
}

// mostGivers is how many blobs are remembered: fetches that were ended leave some.
const mostGivers = 1000

func (g *givers) note(digest string, index int, host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil || len(g.all) >= mostGivers && g.all[digest] == nil {
		g.all = make(map[string]map[int]string)
	}
	if g.all[digest] == nil {
		g.all[digest] = make(map[int]string)
	}
	g.all[digest][index] = host
}

// of returns who gave a chunk, "" for the registry or nobody.
func (g *givers) of(digest string, index int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[digest][index]
}

func (g *givers) forget(digest string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, digest)
}
