package enginetest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// A Script answers one pull. When it returns, the answer ends properly. It runs on the
// goroutine of the request.
type Script func(p *Pull)

// Pull is a pull that a Script answers.
type Pull struct {
	Image    string // in full form
	Platform string

	engine *Engine
	w      http.ResponseWriter
	r      *http.Request
	cutOff bool
}

// Auth returns the X-Registry-Auth header that the call came with.
func (p *Pull) Auth() string { return p.r.Header.Get("X-Registry-Auth") }

// Gone returns a channel that is closed when the client has left.
func (p *Pull) Gone() <-chan struct{} { return p.r.Context().Done() }

// Refuse answers with an error status before any stream.
func (p *Pull) Refuse(status int, message string) { refuse(p.w, status, message) }

// Raw writes bytes to the stream and flushes them.
func (p *Pull) Raw(s string) {
	if p.w.Header().Get("Content-Type") == "" {
		p.w.Header().Set("Content-Type", "application/json")
	}
	fmt.Fprint(p.w, s)
	p.w.(http.Flusher).Flush()
}

// EndWithConnection makes the answer end with its connection, as in HTTP 1.0, so that a cut
// looks like an end. It must be called before the first write.
func (p *Pull) EndWithConnection() {
	p.w.Header().Set("Transfer-Encoding", "identity")
	p.w.Header().Set("Connection", "close")
}

// Line writes one line to the stream.
func (p *Pull) Line(json string) { p.Raw(json + "\r\n") }

// Fail writes an error line to the stream.
func (p *Pull) Fail(message string) {
	p.Line(fmt.Sprintf(`{"errorDetail":{"message":%q},"error":%q}`, message, message))
}

// Wait waits for a time. It returns false when the client has left.
func (p *Pull) Wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.Gone():
		return false
	}
}

// Until waits for the channel. It returns false when the client has left.
func (p *Pull) Until(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-p.Gone():
		return false
	}
}

// Cut ends the answer without its proper end.
func (p *Pull) Cut() {
	p.cutOff = true
	panic(http.ErrAbortHandler)
}

// Tag adds the pulled image to the engine's store.
func (p *Pull) Tag(i puller.Image) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.engine.name(p.Image, i)
	p.engine.events.add("image", "pull", p.Image, p.Image)
}

// Serve is a successful pull of a small image with two layers.
func Serve(i puller.Image) Script {
	return func(p *Pull) {
		p.Line(`{"status":"Pulling from image","id":"v1"}`)
		for _, id := range []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb"} {
			p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"` + id + `"}`)
		}
		for _, id := range []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb"} {
			p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"` + id + `"}`)
			p.Line(`{"status":"Download complete","progressDetail":{},"id":"` + id + `"}`)
			p.Line(`{"status":"Pull complete","progressDetail":{},"id":"` + id + `"}`)
		}
		p.Tag(i)
		p.Line(`{"status":"Digest: ` + Digest(i) + `"}`)
		p.Line(`{"status":"Status: Downloaded newer image for ` + p.Image + `"}`)
	}
}

// Replay answers with a recording. At its clean end it tags the image, if i is not nil.
func Replay(rec transcripts.Recording, i *puller.Image) Script {
	return func(p *Pull) {
		for name, values := range rec.Header {
			if name != "Transfer-Encoding" && name != "Content-Length" {
				p.w.Header()[name] = values
			}
		}
		p.w.WriteHeader(rec.Status)
		// The pieces do not end with lines or reads.
		const piece = 333
		for rest := rec.Body; len(rest) > 0; {
			n := min(piece, len(rest))
			p.w.Write(rest[:n])
			p.w.(http.Flusher).Flush()
			rest = rest[n:]
		}
		if rec.Exit != 0 {
			p.Cut()
		}
		if i != nil {
			p.Tag(*i)
		}
	}
}

// NewImage returns an image of a registry. Images with different seeds have nothing in
// common.
func NewImage(image string, seed int) puller.Image {
	digest := fmt.Sprintf("sha256:%064x", seed)
	name, _, _ := cutTag(full(image))
	return puller.Image{
		ID:          fmt.Sprintf("sha256:c%063x", seed),
		RepoTags:    []string{full(image)},
		RepoDigests: []string{name + "@" + digest},
		Platform:    "linux/amd64",
		Size:        2000,
		DiffIDs:     []string{fmt.Sprintf("sha256:d%063x", 2*seed), fmt.Sprintf("sha256:d%063x", 2*seed+1)},
	}
}

// Digest returns the digest in the registry of an image of NewImage.
func Digest(i puller.Image) string {
	_, _, digest := cutTag(i.RepoDigests[0])
	return digest
}
