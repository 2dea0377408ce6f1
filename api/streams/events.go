// Package streams sends events and the output of runs to clients while they happen.
package streams

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/stream"
)

// heartbeatAfter is the longest silence of a stream.
const heartbeatAfter = 15 * time.Second

// medias are the formats of events by name.
var medias = map[string]*stream.Format{
	"application/x-ndjson": stream.NDJSON,
	"text/event-stream":    stream.SSE,
}

// Events serves the routes of events and of output.
type Events struct {
	puller   puller.Service
	fleet    fleet.Service // nil for none
	log      logrus.FieldLogger
	hijacked connections.Hijacked
}

// New returns the handlers. f may be nil; then OfFleet must not be called.
func New(p puller.Service, f fleet.Service, log logrus.FieldLogger) *Events {
	return &Events{puller: p, fleet: f, log: log}
}

// Wait waits for the streams of events on hijacked connections, or for ctx. http.Server
// does not know them any more. They end when the Service closes.
func (s *Events) Wait(ctx context.Context) { s.hijacked.Wait(ctx) }

// Count returns how many streams of events are sent on hijacked connections.
func (s *Events) Count() int { return s.hijacked.Count() }

// IsFormat reports whether a media type is one of events.
func IsFormat(media string) bool { return medias[media] != nil }

// Media returns the media type of events that the caller accepts, ""
// where it accepts none by name.
func Media(r *http.Request) string {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil || params["q"] == "0" {
				continue
			}
			if _, ok := medias[media]; ok {
				return media
			}
		}
	}
	return ""
}

// OfJob is GET /v1/jobs/{id}/events: the events of a job, to its end.
func (s *Events) OfJob(w http.ResponseWriter, r *http.Request) error {
	after, err := input.Since(r)
	if err != nil {
		return err
	}
	interval, err := input.Every(r)
	if err != nil {
		return err
	}
	return s.StreamJob(w, r, r.PathValue("id"), after, interval, cmp.Or(Media(r), "application/x-ndjson"))
}

// StreamJob writes a job's events to the last. It returns an error only before
// the first byte.
func (s *Events) StreamJob(w http.ResponseWriter, r *http.Request, id string, since *uint64, every time.Duration, media string) error {
	frames, sub, err := s.puller.Watch(id, since)
	if err != nil {
		return err
	}
	sub.Every = every
	ended := func() bool {
		j, err := s.puller.Job(id)
		return err == nil && j.State.Ended()
	}
	if medias[media] == stream.SSE && r.Header.Get("Last-Event-ID") != "" && !slices.ContainsFunc(frames, func(f stream.Frame) bool { return f.Seq != 0 }) {
		b, err := sub.Next(r.Context(), 0)
		if err == io.EOF && ended() {
			// A browser connects again after the end. This has it stop.
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if b != nil {
			frames = append(frames, b.Frames()...)
		}
	}
	next := func(ctx context.Context) (*stream.Batch, error) {
		b, err := sub.Next(ctx, heartbeatAfter)
		if b == nil && err == nil {
			b = stream.NewBatch(puller.HeartbeatFrame(id))
		}
		return b, err
	}
	s.stream(w, r, media, &reader{job: id, format: medias[media], next: next, ended: ended}, sub.First(frames))
	return nil
}

// OfAll is GET /v1/events: the events of all jobs, or of those with a kind
// and an image, to the daemon's end.
func (s *Events) OfAll(w http.ResponseWriter, r *http.Request) error {
	after, err := input.Since(r)
	if err != nil {
		return err
	}
	interval, err := input.Every(r)
	if err != nil {
		return err
	}
	kind, image := r.URL.Query().Get("kind"), r.URL.Query().Get("image")
	frames, sub, err := s.puller.WatchAll(kind, image, after)
	if err != nil {
		return err
	}
	sub.Every = interval
	last := false
	next := func(ctx context.Context) (*stream.Batch, error) {
		if last {
			return nil, io.EOF
		}
		b, err := sub.Next(ctx, heartbeatAfter)
		switch {
		case err == io.EOF:
			last = true
			return stream.NewBatch(shutdownFrame()), nil
		case errors.Is(err, stream.ErrBehind):
			// A notice says so. The present state follows.
			at := sub.At()
			var frames []stream.Frame
			if frames, sub, err = s.puller.WatchAll(kind, image, &at); err != nil {
				return nil, err
			}
			sub.Every = interval
			return stream.NewBatch(frames...), nil
		case b == nil && err == nil:
			return stream.NewBatch(puller.HeartbeatFrame("")), nil
		}
		return b, err
	}
	media := cmp.Or(Media(r), "application/x-ndjson")
	s.stream(w, r, media, &reader{format: medias[media], next: next, ended: func() bool { return false }}, stream.NewBatch(frames...))
	return nil
}

// When the daemon stops, streams end before their last event. These spread the
// readers over some time when they come back.
const (
	leastRetry  = time.Second
	spreadRetry = 10 * time.Second
)

// reader is a stream of events to one client. It holds nothing of the request,
// which may have ended long before.
type reader struct {
	job    string // for events that several jobs share
	format *stream.Format
	next   func(context.Context) (*stream.Batch, error) // until io.EOF
	ended  func() bool                                  // whether a client that comes back would get nothing more
}

// stream writes the first batch and what comes next, until there is no more or
// the client has gone. Where the connection could be hijacked, it returns before
// that: a small goroutine goes on, and the handler's, with its stack and all that
// net/http holds for it, ends.
func (s *Events) stream(w http.ResponseWriter, r *http.Request, media string, to *reader, first *stream.Batch) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", media)
		w.Header().Set("X-Accel-Buffering", "no")
		return // a stream that is not sent would hold the connection to the job's end
	}
	out, err := s.hijacked.Writer(w, r, media)
	switch {
	case err != nil:
		out.Close()
	case !out.Hijacked():
		to.write(r.Context(), out, first)
	default:
		go s.serve(out, to, first)
	}
}

// serve writes to a connection that was hijacked.
func (s *Events) serve(out *connections.Writer, to *reader, first *stream.Batch) {
	defer func() {
		if fault := recover(); fault != nil { // as net/http does
			s.log.WithField("stack", string(debug.Stack())).Errorf("a stream of events has failed: %v", fault)
		}
	}()
	to.write(context.Background(), out, first)
}

// write writes to the end of the stream.
func (r *reader) write(ctx context.Context, out *connections.Writer, b *stream.Batch) {
	defer out.Close()
	var err error
	for ; err == nil; b, err = r.next(ctx) {
		if len(b.Frames()) > 0 && out.Batch(b, r.format, r.job) != nil {
			return
		}
		b = nil // it may be long until the next
	}
	if err != io.EOF {
		return // what was read is not all
	}
	if r.format == stream.SSE && !r.ended() {
		out.Text(stream.AppendRetry(nil, leastRetry+rand.N(spreadRetry)))
	}
	out.End()
}

// shutdownFrame returns what readers of all jobs are told last.
func shutdownFrame() stream.Frame {
	return puller.NoticeEvent(0, "", "towline is shutting down; the jobs go on when it is back", 0).Frame()
}
