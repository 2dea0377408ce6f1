package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

const (
	// sample is how many bytes of a blob a registry has to show, before what another
	// caller's credentials have fetched is given to this one.
	sample = 64 << 10
	// hidden is how many bytes at its end a blob does not show before its digest was
	// checked.
	hidden = 64 << 10
)

// compareLimit is how long a registry may take to show it. It is well below the minute after
// which a pull is taken for one that stands still.
const compareLimit = 15 * time.Second

var errTooEarly = errors.New("too little of the blob is here to compare it")

// access is what an identity has access to.
type access struct {
	registry   string
	identity   [sha256.Size]byte
	repository puller.Repository // read with its credentials
	flights    *flights
}

// has reports whether the identity has access to all of some blobs.
func (a access) has(all []*blobs.Blob) bool {
	return !slices.ContainsFunc(all, func(b *blobs.Blob) bool { return !b.Granted(a.identity) })
}

// claim returns those of some blobs that the identity is to fetch now, and the flights of
// those that others fetch.
func (a access) claim(all []*blobs.Blob, shared bool) (mine []*blobs.Blob, others []*flight) {
	return a.flights.claim(a.registry, a.identity, all, shared)
}

// prove gets access to blobs that are there at least in part, and that other callers'
// credentials have fetched. The registry must show a part of each to this identity's
// credentials: who chooses a manifest can name any digest in it, so a manifest proves
// nothing.
func (a access) prove(ctx context.Context, all []*blobs.Blob) error {
	for _, b := range all {
		if b.Size() == 0 {
			b.Grant(a.identity) // there is nothing to see
		}
		if b.Granted(a.identity) || b.Have() == 0 {
			continue
		}
		err := a.compare(ctx, b)
		switch {
		case err == nil:
			b.Grant(a.identity)
		case errors.Is(err, errTooEarly):
		case !a.flights.reset(b):
			return err
		}
	}
	return nil
}

// verify waits for the digests of blobs that are there from an earlier start. One that
// is wrong is missing after it.
func verify(ctx context.Context, all []*blobs.Blob) error {
	for _, b := range all {
		if b.Whole() || len(b.Missing()) > 0 {
			continue
		}
		err := b.Verify(ctx)
		if kind := puller.KindOf(err); err != nil && kind != puller.ErrCorrupt && kind != puller.ErrTruncated {
			return err
		}
	}
	return nil
}

// compare asks the registry for a part of what is there of a blob.
func (a access) compare(ctx context.Context, b *blobs.Blob) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, compareLimit, puller.Errorf(puller.ErrStalled, "the registry does not show a part of %s in %s", b.Digest(), compareLimit))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	from, to := present(b)
	if to <= from {
		return errTooEarly
	}
	if to-from > sample {
		from += rand.Int64N(to - from - sample)
		to = from + sample
	}
	body, err := a.repository.Blob(ctx, b.Digest(), from, to, b.Size())
	if err != nil {
		return err
	}
	defer body.Close()
	if body.Whole {
		if _, err := io.CopyN(io.Discard, body, from); err != nil {
			return err
		}
	}
	shown := make([]byte, to-from)
	if _, err := io.ReadFull(body, shown); err != nil {
		return err
	}
	here := make([]byte, to-from)
	in := b.NewReader(ctx, from)
	defer in.Close()
	if _, err := io.ReadFull(in, here); err != nil {
		return err
	}
	if !bytes.Equal(shown, here) {
		return fmt.Errorf("the registry shows other bytes of %s than were fetched before", b.Digest())
	}
	return nil
}

// present returns the longest range of a blob that is there and shown.
func present(b *blobs.Blob) (from, to int64) {
	shown := b.Size()
	if !b.Whole() {
		shown -= hidden
	}
	at := int64(0)
	for _, missing := range append(b.Missing(), blobs.Range{From: b.Size(), To: b.Size()}) {
		if end := min(missing.From, shown); end-at > to-from {
			from, to = at, end
		}
		at = missing.To
	}
	return from, to
}

// grantEvery is how often it is looked whether a blob may be given.
const grantEvery = 20 * time.Millisecond

// await waits until the identity has access to a blob, which Image.fetch finds out.
func (a access) await(ctx context.Context, b *blobs.Blob) error {
	for !b.Granted(a.identity) {
		select {
		case <-time.After(grantEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
