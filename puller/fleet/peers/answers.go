package peers

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/sharing"
)

// manifest sends a manifest of an image.
func (s *server) manifest(r request) error {
	here := s.manifests.Contains(manifestKey(r.image, r.image.Digest)) && s.manifests.Contains(manifestKey(r.image, r.digest))
	barred := func() bool { return s.isBarred(r.image, manifestKey(r.image, r.digest), r.digest, 0) }
	if !here && (r.only() || barred()) {
		return refusedContent
	}
	held, err := s.host.Open(r.Context(), r.image)
	if err != nil {
		return err
	}
	var raw puller.RawManifest
	key := "read " + r.image.Repository + "@" + r.image.Digest + " " + r.digest
	read := func(ctx context.Context) (err error) {
		raw, err = held.Read(ctx, r.digest)
		return err
	}
	if err := s.finish(r, key, read, barred); err != nil {
		return err
	}
	if raw.Body == nil { // another request had it read
		if raw, err = held.Read(r.Context(), r.digest); err != nil {
			return err
		}
	}
	r.w.Header().Set("Content-Type", "application/octet-stream")
	r.w.Header().Set("Content-Length", strconv.Itoa(len(raw.Body)))
	r.w.Write(raw.Body)
	return nil
}

// finish has something done, also when this request has ended, and waits for it for a while.
func (s *server) finish(r request, key string, do func(context.Context) error, barred func() bool) error {
	ended := make(chan error, 1)
	if !s.background(r, func(ctx context.Context) { ended <- s.flights.do(ctx, key, do) }) {
		return errEnded
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for began := time.Now(); time.Since(began) < s.timing.wait; {
		select {
		case err := <-ended:
			return err
		case <-look.C:
			if barred() {
				return refusedContent
			}
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
	}
	return wire.ErrWaiting
}

// background does something that a host asked for. It goes on for a while after the request,
// so that the next one finds it further. It reports whether it does.
func (s *server) background(r request, do func(context.Context)) bool {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if s.flights.ctx.Err() != nil {
		return false
	}
	s.flights.work.Go(func() {
		ctx, cancel := context.WithCancelCause(s.flights.ctx)
		defer cancel(nil)
		stop := context.AfterFunc(r.Context(), func() {
			sleep(ctx, s.timing.linger)
			cancel(errLeft)
		})
		defer stop()
		do(ctx)
	})
	return true
}

// sumsOfBlob sends the sums of the chunks of a blob that this host has proven.
func (s *server) sumsOfBlob(r request) error {
	b, release, err := s.use(r.Context(), r)
	if err != nil {
		return err
	}
	defer release()
	if !b.Whole() {
		return refusedContent
	}
	sums, err := s.provenSums(r.Context(), b)
	if err != nil {
		return err
	}
	r.w.Header().Set("Content-Type", "application/octet-stream")
	r.w.Header().Set("Content-Length", strconv.Itoa(len(sums)))
	r.w.Write(sums)
	return nil
}

// use returns the blob that is asked for.
func (s *server) use(ctx context.Context, r request) (*blobs.Blob, func(), error) {
	held, err := s.host.Open(ctx, r.image)
	if err != nil {
		return nil, nil, err
	}
	return held.Use(ctx, r.manifest, r.digest)
}

// chunk sends a range of a chunk: what is there of it, and what comes while it is sent.
func (s *server) chunk(r request) error {
	// The manifest may have to be fetched, and this host's access to be shown.
	key := "use " + r.image.Repository + "@" + r.image.Digest + " " + r.manifest + " " + r.digest
	if err := s.finish(r, key, func(ctx context.Context) error {
		_, release, err := s.use(ctx, r)
		if err == nil {
			release()
		}
		return err
	}, func() bool {
		manifest := manifestKey(r.image, r.manifest)
		return !s.manifests.Contains(manifest) && s.isBarred(r.image, manifest, r.manifest, 0)
	}); err != nil {
		return err
	}
	b, release, err := s.use(r.Context(), r)
	if err != nil {
		return err
	}
	defer release()
	index, err := strconv.Atoi(r.PathValue("index"))
	if err != nil || index < 0 || index >= chunks(b.Size(), s.o.Chunk) {
		return refusedRequest
	}
	of := rangeOf(b.Size(), s.o.Chunk, index)
	from, err := strconv.ParseInt(r.FormValue("from"), 10, 64)
	to, fault := strconv.ParseInt(r.FormValue("to"), 10, 64)
	if err != nil || fault != nil || from < of.From || to > of.To || from >= to {
		return refusedRequest
	}
	there, err := s.awaitByte(r, b, index, from)
	if err != nil {
		return err
	}
	timer := time.NewTimer(s.timing.turn)
	defer timer.Stop()
	select {
	case s.sends <- struct{}{}:
		defer func() { <-s.sends }()
	case <-timer.C:
		return refusedBusy
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
	h := r.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set(wire.HeaderFrom, strconv.FormatInt(from, 10))
	h.Set(wire.HeaderThere, strconv.FormatInt(min(there, to)-from, 10))
	r.w.WriteHeader(http.StatusOK)
	s.send(r, b, blobs.Range{From: from, To: to}, there)
	return nil
}

// awaitByte waits for a byte of a chunk, which it has brought, and returns up to where
// others follow it.
func (s *server) awaitByte(r request, b *blobs.Blob, index int, from int64) (there int64, err error) {
	now, stop := context.WithCancel(r.Context())
	stop() // it does not wait
	if there, err = b.Await(now, from); err == nil {
		return there, nil
	}
	key := chunk{blob: sharing.Blob{Blob: b}, index: index}.key()
	barred := func() bool { return s.isBarred(r.image, key, b.Digest(), index) }
	if barred() {
		return 0, refusedContent
	}
	if r.only() {
		// It may be a host that this one waits for, but for what this one is to ask the
		// registry. Before that it looks at hosts after it only: nobody waits in a circle.
		if _, comes := s.bringing.Load(key); comes {
			return 0, wire.ErrWaiting
		}
		return 0, errNothing
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.timing.wait, wire.ErrWaiting)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if !s.background(r, func(ctx context.Context) {
		if err := s.demand(ctx, r, index); err != nil {
			fail(err)
		}
	}) {
		return 0, errEnded
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				if barred() {
					fail(refusedContent)
				}
			}
		}
	}()
	return b.Await(ctx, from)
}

// demand brings a chunk that another host asked for.
func (s *server) demand(ctx context.Context, r request, index int) error {
	held, err := s.host.Open(ctx, r.image)
	if err != nil {
		return err
	}
	b, release, err := held.Use(ctx, r.manifest, r.digest)
	if err != nil {
		return err
	}
	defer release()
	shared := sharing.Blob{Blob: b, Manifest: r.manifest}
	if err := s.take(ctx, chunk{r.image, shared, index}, held, nil); err != nil {
		return err
	}
	if b.Whole() || len(b.Missing()) > 0 {
		return nil
	}
	return s.settle(ctx, r.image, shared, held, sharing.Progress{})
}

// send sends bytes of a range as long as they come without a gap. The end of the answer is
// clean wherever it is: the other host asks for the rest.
func (s *server) send(r request, b *blobs.Blob, of blobs.Range, there int64) {
	control := http.NewResponseController(r.w)
	memory := wire.Pieces.Get().(*[wire.Piece]byte)
	defer wire.Pieces.Put(memory)
	began := time.Now()
	for at := of.From; at < of.To && time.Since(began) < s.timing.send; {
		if at >= there {
			if control.Flush() != nil {
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), s.timing.still)
			next, err := b.Await(ctx, at)
			cancel()
			if err != nil {
				return
			}
			there = next
		}
		p := memory[:min(wire.Piece, min(there, of.To)-at)]
		if _, err := b.ReadAt(p, at); err != nil {
			panic(http.ErrAbortHandler) // they were found wrong just now
		}
		if s.limiter != nil && s.limiter.WaitN(r.Context(), len(p)) != nil {
			return
		}
		control.SetWriteDeadline(time.Now().Add(s.timing.gap))
		if _, err := r.w.Write(p); err != nil {
			return
		}
		s.metrics.given.Add(float64(len(p)))
		at += int64(len(p))
	}
}
