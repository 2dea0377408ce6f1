package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

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

var errTooEarly = errors.New("too little of the blob is here to compare it")

// prove gets access to blobs that are there at least in part, and that other callers'
// credentials have fetched. The registry must show a part of each to this pull's
// credentials: who chooses a manifest can name any digest in it, so a manifest proves
// nothing.
func (p *pull) prove(all []*blobs.Blob) error {
	for _, b := range all {
		if b.Size() == 0 {
			b.Grant(p.identity) // there is nothing to see
		}
		if b.Granted(p.identity) || b.Have() == 0 {
			continue
		}
		err := p.compare(p.ctx, b)
		switch {
		case err == nil:
			b.Grant(p.identity)
		case errors.Is(err, errTooEarly):
		case !p.mirror.reset(b):
			return err
		}
	}
	return nil
}

// reset throws away what is there of a blob that is not whole and that nobody fetches:
// it may be that another registry sent something wrong. It reports whether it did.
func (m *Mirror) reset(b *blobs.Blob) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !b.Whole() && m.flights[b.Digest()] == nil && b.Reset() == nil
}

// compare asks the registry for a part of what is there of a blob.
func (p *pull) compare(ctx context.Context, b *blobs.Blob) error {
	from, to := present(b)
	if to <= from {
		return errTooEarly
	}
	if to-from > sample {
		from += rand.Int64N(to - from - sample)
		to = from + sample
	}
	body, err := p.repo.Blob(ctx, b.Digest(), from, to, b.Size())
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

// awaitAccess waits until the pull's credentials have access to a blob, which fetch
// finds out.
func (p *pull) awaitAccess(ctx context.Context, b *blobs.Blob) error {
	for !b.Granted(p.identity) {
		select {
		case <-time.After(grantEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
