package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/token"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/sharing"
)

// Headers of requests, beside Authorization, and of answers. The last two are of chunks: the
// offset in the blob where the bytes begin, and how many were there at first.
const (
	headerSet        = "Towline-Set"
	headerGeneration = "Towline-Generation"
	headerHost       = "Towline-Host" // that asks
	headerRepository = "Towline-Repository"
	headerImage      = "Towline-Image"    // the digest by which the set names it
	headerManifest   = "Towline-Manifest" // that lists the blob
	headerOnly       = "Towline-Only"     // "1": what the host has, it is to bring nothing
	headerFrom       = "Towline-From"
	headerThere      = "Towline-There"
)

const (
	// piece is how many bytes are read, kept and sent at a time.
	piece = 128 << 10
	// slowest is how many bytes a second a host must send of those that it has.
	slowest = 64 << 10
	// mostManifest is how large a manifest may be.
	mostManifest = 4 << 20
	// keepAfter is how long bytes are in memory while others come.
	keepAfter = 20 * time.Millisecond
)

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// newClient returns a client for hosts of the fleet: without a proxy, without redirects, and
// one request a connection, as one TCP stream is for one chunk.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConnsPerHost:    2,
			MaxIdleConns:           64,
			IdleConnTimeout:        10 * time.Second,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
			ForceAttemptHTTP2:      false,
			TLSNextProto:           nil,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get asks a host. What ends the answer in any case is its context: the caller must call
// cancel.
func (n *Node) get(ctx context.Context, g fleet.Group, m fleet.Member, i sharing.Image, manifest, digest, path string, only bool) (resp *http.Response, alive *time.Timer, cancel func(), err error) {
	ctx, stop := context.WithTimeoutCause(ctx, n.timing.answer, errSlow)
	ctx, end := context.WithCancelCause(ctx)
	alive = time.AfterFunc(n.timing.head, func() { end(errors.New("it sends nothing")) })
	cancel = func() { alive.Stop(); end(nil); stop() }
	defer func() {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			cancel()
		}
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Address+path, nil)
	if err != nil {
		return nil, alive, cancel, err
	}
	r.Header = http.Header{
		"Authorization": {token.Header(g, g.Self, digest)},
		headerSet:       {g.Set}, headerGeneration: {strconv.FormatUint(g.Generation, 10)}, headerHost: {g.Self},
		headerRepository: {i.Repository}, headerImage: {i.Digest}, headerManifest: {manifest},
		"Accept-Encoding": {"identity"}, "User-Agent": {"towline"},
	}
	if only {
		r.Header.Set(headerOnly, "1")
	}
	resp, err = n.client.Do(r)
	if err != nil {
		return nil, alive, cancel, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp, alive, cancel, nil
	case http.StatusAccepted:
		err = errWaiting
	case http.StatusNoContent:
		err = errNothing
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		err = errBusy
	case http.StatusForbidden:
		err = errStrange
	case http.StatusNotFound, http.StatusBadRequest:
		err = errRefused
	default:
		err = fmt.Errorf("%w: %s", errLie, resp.Status)
	}
	io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection is used again
	resp.Body.Close()
	return nil, alive, cancel, err
}

// getChunk asks a host for a range of a chunk, and keeps what comes. n is how much that was:
// an answer may end early, and is asked for again.
func (n *Node) getChunk(ctx context.Context, g fleet.Group, m fleet.Member, i sharing.Image, b sharing.Blob, index int, r blobs.Range, only bool, taken func(int)) (got int64, err error) {
	began := time.Now()
	path := fmt.Sprintf("/v1/chunks/%s/%d?from=%d&to=%d", b.Digest(), index, r.From, r.To)
	resp, alive, cancel, err := n.get(ctx, g, m, i, b.Manifest, b.Digest(), path, only)
	if err != nil {
		return 0, err
	}
	defer cancel()
	defer resp.Body.Close()
	there, err := strconv.ParseInt(resp.Header.Get(headerThere), 10, 64)
	if from := resp.Header.Get(headerFrom); from != strconv.FormatInt(r.From, 10) || err != nil || there < 0 {
		return 0, fmt.Errorf("%w: it sends bytes from %q on, not from %d", errLie, puller.Clip(from), r.From)
	}
	there = min(there, r.To-r.From)
	memory := pieces.Get().(*[piece]byte)
	defer pieces.Put(memory)
	at, filled, kept := r.From, 0, time.Now()
	for {
		alive.Reset(n.timing.gap)
		k, err := resp.Body.Read(memory[filled:])
		if filled += k; at+int64(filled) > r.To {
			return got, fmt.Errorf("%w: it sends more than the %d bytes that were asked for", errLie, r.To-r.From)
		}
		if filled == piece || err != nil || time.Since(kept) > keepAfter {
			// Whether the digest is right is looked at when all is here.
			if _, err := b.WriteAt(memory[:filled], at); err != nil && puller.KindOf(err) != puller.ErrCorrupt {
				return got, keepError{err}
			}
			n.metrics.taken.Add(float64(filled))
			if taken != nil && filled > 0 {
				taken(filled)
			}
			at, got, filled, kept = at+int64(filled), got+int64(filled), 0, time.Now()
		}
		if err == nil {
			continue
		}
		if cause := context.Cause(resp.Request.Context()); cause != nil {
			err = cause
		}
		switch took := time.Since(began); {
		case got < there && took > n.timing.gap/2 && float64(got) < slowest*took.Seconds():
			return got, errSlow
		case err == io.EOF && got == 0:
			return got, errWaiting
		case err == io.EOF, got > 0: // where it was cut, the next request shows whether the host still answers
			return got, nil
		}
		return got, err
	}
}

// getManifest asks a host for a manifest, and compares its digest.
func (n *Node) getManifest(ctx context.Context, g fleet.Group, m fleet.Member, i sharing.Image, of string, only bool) (raw puller.RawManifest, err error) {
	resp, alive, cancel, err := n.get(ctx, g, m, i, "", of, "/v1/manifests/"+of, only)
	if err != nil {
		return raw, err
	}
	defer cancel()
	defer resp.Body.Close()
	alive.Reset(n.timing.gap)
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostManifest+1))
	if err != nil {
		return raw, err
	}
	if len(body) > mostManifest || digest.Digest(of).Algorithm().FromBytes(body).String() != of {
		return raw, fmt.Errorf("%w: the bytes of %s have another digest", errLie, of)
	}
	return puller.RawManifest{Body: body, MediaType: mediaType(body), Digest: of}, nil
}

// getSums asks a host that has proven a blob for the sums of its chunks.
func (n *Node) getSums(ctx context.Context, g fleet.Group, m fleet.Member, i sharing.Image, b sharing.Blob) ([]byte, error) {
	resp, alive, cancel, err := n.get(ctx, g, m, i, b.Manifest, b.Digest(), "/v1/sums/"+b.Digest(), true)
	if err != nil {
		return nil, err
	}
	defer cancel()
	defer resp.Body.Close()
	alive.Reset(n.timing.gap)
	want := chunks(b.Size(), n.o.Chunk) * sumSize
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(want)+1))
	if err == nil && len(body) != want {
		err = fmt.Errorf("%w: it has sums of %d bytes, not %d", errLie, len(body), want)
	}
	return body, err
}
