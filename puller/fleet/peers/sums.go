package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/tree"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/sharing"
)

const (
	// sumSize is how many bytes the sum of a chunk has: SHA-256.
	sumSize = sha256.Size
	// maxRepairs is how often a blob is repaired with what other hosts say, before all of
	// it comes from the registry.
	maxRepairs = 3
)

// sumsOf returns the sums of all chunks of a blob that is here, one after another.
func (n *Node) sumsOf(ctx context.Context, b *blobs.Blob) ([]byte, error) {
	all := make([]byte, 0, chunks(b.Size(), n.o.Chunk)*sumSize)
	memory := wire.Pieces.Get().(*[wire.Piece]byte)
	defer wire.Pieces.Put(memory)
	for index := range chunks(b.Size(), n.o.Chunk) {
		r, sum := rangeOf(b.Size(), n.o.Chunk, index), sha256.New()
		for at := r.From; at < r.To; {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			p := memory[:min(wire.Piece, r.To-at)]
			if k, err := b.ReadAt(p, at); k < len(p) {
				return nil, fmt.Errorf("read back %s: %w", b.Digest(), err)
			}
			sum.Write(p)
			at += int64(len(p))
		}
		all = sum.Sum(all)
	}
	return all, nil
}

// provenSums returns the sums of a whole blob. They are computed once.
func (n *Node) provenSums(ctx context.Context, b *blobs.Blob) ([]byte, error) {
	n.summing.Lock()
	defer n.summing.Unlock()
	if sums, ok := n.sums.Get(b.Digest()); ok {
		return sums, nil
	}
	sums, err := n.sumsOf(ctx, b)
	if err == nil {
		n.sums.Add(b.Digest(), sums)
	}
	return sums, err
}

// settle returns when a blob that has all its bytes was found right. Where its digest is
// wrong, a host that has proven the blob says by sums which chunks are, and gives them. If
// that does not help, all of it comes from the registry.
func (n *Node) settle(ctx context.Context, i sharing.Image, b sharing.Blob, from sharing.Source, p sharing.Progress) error {
	return n.flights.do(ctx, "settle "+b.Digest(), func(ctx context.Context) error {
		asked := make(map[string]bool) // who has said sums
		for range maxRepairs {
			err := b.Verify(ctx)
			if err == nil {
				n.givers.forget(b.Digest())
			}
			if err == nil || puller.KindOf(err) != puller.ErrCorrupt {
				return err
			}
			if err := n.repair(ctx, i, b, asked, from, p); err != nil {
				n.o.Log.WithError(err).WithField("digest", b.Digest()).Info("a blob of the fleet can't be repaired with other hosts")
				break
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return n.refetch(ctx, i, b, from, p)
	})
}

// refetch brings a blob that was found wrong from the registry.
func (n *Node) refetch(ctx context.Context, i sharing.Image, b sharing.Blob, from sharing.Source, p sharing.Progress) error {
	if err := b.Verify(ctx); err == nil {
		return nil
	}
	n.metrics.fallbacks.Inc()
	tell(p, "hosts of the fleet gave wrong bytes of "+b.Digest()+", and none says which; all of it comes from the registry")
	wrong, unread := n.sumsOf(ctx, b.Blob) // an error where bytes are missing
	var err error
	for range 2 { // as any blob whose digest is wrong
		if err = b.Reset(); err != nil {
			return err
		}
		if err = from.Fetch(ctx, b.Blob, blobs.Range{From: 0, To: b.Size()}); err != nil {
			return err
		}
		if err = b.Verify(ctx); puller.KindOf(err) != puller.ErrCorrupt {
			break
		}
	}
	if err != nil || unread != nil {
		return err
	}
	if right, err := n.provenSums(ctx, b.Blob); err == nil {
		g, _ := n.o.Groups.Group(i.Repository, i.Digest)
		n.blame(g, b, wrong, right, "the registry", p)
	}
	n.givers.forget(b.Digest())
	return nil
}

func tell(p sharing.Progress, message string) {
	if p.Notice != nil {
		p.Notice(message)
	}
}

// repair finds a host that has proven a blob and was not asked yet, and gets from it the
// chunks that are wrong here.
func (n *Node) repair(ctx context.Context, i sharing.Image, b sharing.Blob, asked map[string]bool, from sharing.Source, p sharing.Progress) error {
	g, m, right, err := n.findProven(ctx, i, b, asked)
	if err != nil {
		return err
	}
	here, err := n.sumsOf(ctx, b.Blob)
	if err != nil {
		return err
	}
	var bad []int
	var ranges []blobs.Range
	for index := range chunks(b.Size(), n.o.Chunk) {
		if at := index * sumSize; !bytes.Equal(here[at:at+sumSize], right[at:at+sumSize]) {
			bad = append(bad, index)
			ranges = append(ranges, rangeOf(b.Size(), n.o.Chunk, index))
		}
	}
	if len(bad) == 0 {
		n.avoid(m, tree.AvoidBad, errors.New("it says that wrong bytes are right"))
		return nil // the next one
	}
	if err := b.Discard(ranges); err != nil {
		return err
	}
	for _, index := range bad {
		c := chunk{i, b, index}
		if n.replace(ctx, g, m, c, p) == nil {
			continue
		}
		if err := n.take(ctx, c, from, p.Taken); err != nil {
			return err
		}
	}
	if err := b.Verify(ctx); err != nil {
		n.avoid(m, tree.AvoidBad, errors.New("what it says of a blob is wrong"))
		return nil
	}
	n.blame(g, b, here, right, m.Host, p)
	return nil
}

// replace gets a chunk from one host.
func (n *Node) replace(ctx context.Context, g fleet.Group, m fleet.Member, c chunk, p sharing.Progress) error {
	of := rangeOf(c.blob.Size(), n.o.Chunk, c.index)
	for {
		r, ok := missing(c.blob.Blob, of)
		if !ok {
			return nil
		}
		got, err := n.askChunk(ctx, g, m, c, r, true, p.Taken)
		if err != nil && got == 0 {
			return fmt.Errorf("%s does not give chunk %d: %w", m.Host, c.index, err)
		}
	}
}

// blame says which hosts gave the chunks whose sums were wrong. They may have got them from
// others.
func (n *Node) blame(g fleet.Group, b sharing.Blob, wrong, right []byte, from string, p sharing.Progress) {
	by := make(map[string][]string)
	for index := range chunks(b.Size(), n.o.Chunk) {
		if at := index * sumSize; !bytes.Equal(wrong[at:at+sumSize], right[at:at+sumSize]) {
			giver := n.givers.of(b.Digest(), index)
			by[giver] = append(by[giver], strconv.Itoa(index))
		}
	}
	for giver, all := range by {
		what := fmt.Sprintf("gave wrong bytes of %s (%d chunks: %s)", b.Digest(), len(all), puller.ClipTo(strings.Join(all, ", "), 100))
		if giver == "" {
			tell(p, "the registry "+what+"; they were fetched again from "+from)
			continue
		}
		n.metrics.bad.WithLabelValues(giver).Add(float64(len(all)))
		for _, m := range g.Members {
			if m.Host == giver {
				n.avoid(m, tree.AvoidBad, errors.New("it "+what))
			}
		}
		tell(p, giver+" "+what+"; they were fetched again from "+from)
	}
}

// findProven returns a host that has proven a blob, with the sums of its chunks.
func (n *Node) findProven(ctx context.Context, i sharing.Image, b sharing.Blob, asked map[string]bool) (g fleet.Group, m fleet.Member, sums []byte, err error) {
	for began := time.Now(); time.Since(began) < n.timing.proven && ctx.Err() == nil; sleep(ctx, n.timing.pause) {
		g, _ = n.o.Groups.Group(i.Repository, i.Digest)
		tried := 0
		for _, at := range rand.Perm(len(g.Members)) {
			m = g.Members[at]
			if m.Host == g.Self || m.Address == "" || asked[m.Host] || n.standing.Avoids(m.Host) {
				continue
			}
			if sums, err = n.client.Sums(ctx, wire.Question{Group: g, To: m, Image: i, Manifest: b.Manifest, Digest: b.Digest(), Only: true}, chunks(b.Size(), n.o.Chunk)*sumSize); err == nil {
				asked[m.Host] = true
				return g, m, sums, nil
			}
			if tried++; tried >= 8 {
				break
			}
		}
		if tried == 0 {
			break
		}
	}
	if ctx.Err() != nil {
		return g, m, nil, context.Cause(ctx)
	}
	return g, m, nil, errors.New("no other host has proven it")
}
