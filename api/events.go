package api

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

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// heartbeatAfter is how long a stream is silent at most.
const heartbeatAfter = 15 * time.Second

// medias are the formats of events by name.
var medias = map[string]*stream.Format{
	"application/x-ndjson": stream.NDJSON,
	"text/event-stream":    stream.SSE,
}

// streamMedia returns the media type of events that the caller accepts, ""
// where it accepts none by name.
func streamMedia(r *http.Request) string {
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

func (s *Server) jobEvents(w http.ResponseWriter, r *http.Request) error {
	after, err := since(r)
	if err != nil {
		return err
	}
	interval, err := every(r)
	if err != nil {
		return err
	}
	return s.streamJob(w, r, r.PathValue("id"), after, interval, cmp.Or(streamMedia(r), "application/x-ndjson"))
}

// streamJob writes a job's events to the last. It returns an error only before
// the first byte.
func (s *Server) streamJob(w http.ResponseWriter, r *http.Request, id string, since *uint64, every time.Duration, media string) error {
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
	s.stream(w, r, media, &reader{job: id, format: medias[media], next: next, ended: ended}, stream.NewBatch(frames...))
	return nil
}

// allEvents is GET /v1/events: the events of all jobs, or of those with a kind
// and an image, to the daemon's end.
func (s *Server) allEvents(w http.ResponseWriter, r *http.Request) error {
	after, err := since(r)
	if err != nil {
		return err
	}
	interval, err := every(r)
	if err != nil {
		return err
	}
	kind, image := r.URL.Query().Get("kind"), r.URL.Query().Get("image")
	frames, listener, err := s.puller.WatchAll(kind, image, after)
	if err != nil {
		return err
	}
	listener.Every = interval
	over := false
	next := func(ctx context.Context) (*stream.Batch, error) {
		if over {
			return nil, io.EOF
		}
		b, err := listener.Next(ctx, heartbeatAfter)
		switch {
		case err == io.EOF:
			over = true
			return stream.NewBatch(puller.ShutdownFrame()), nil
		case errors.Is(err, stream.ErrBehind):
			// It is told so, and begins anew from what there is now.
			at := listener.At()
			if frames, listener, err = s.puller.WatchAll(kind, image, &at); err != nil {
				return nil, err
			}
			listener.Every = interval
			return stream.NewBatch(frames...), nil
		case b == nil && err == nil:
			return stream.NewBatch(puller.HeartbeatFrame("")), nil
		}
		return b, err
	}
	media := cmp.Or(streamMedia(r), "application/x-ndjson")
	s.stream(w, r, media, &reader{format: medias[media], next: next, ended: func() bool { return false }}, stream.NewBatch(frames...))
	return nil
}

// Readers whose stream ends before its last event, because the daemon does,
// are spread over some time when they come back.
const (
	leastRetry  = time.Second
	spreadRetry = 10 * time.Second
)

// reader is one who is told events. It holds nothing of the request, which is
// long gone when the reader is.
type reader struct {
	job    string // fills the events in that leave theirs open
	format *stream.Format
	next   func(context.Context) (*stream.Batch, error) // until io.EOF
	ended  func() bool                                  // whether there is nothing to come back for after the end
}

// stream writes the first batch and what comes next, until there is no more or
// the reader has gone. Where the connection could be taken over, it returns
// before that: the handler's goroutine, with its stack and all that net/http
// holds for it, is let go, and a small one takes its place.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, media string, who *reader, first *stream.Batch) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", media)
		w.Header().Set("X-Accel-Buffering", "no")
		return // a body that is dropped would hold the connection to the job's end
	}
	out, err := s.hijack(w, r, media)
	switch {
	case err != nil:
		out.close()
	case out.conn == nil:
		who.read(r.Context(), out, first)
	default:
		go s.serve(out, who, first)
	}
}

// serve is read for a connection that was taken over.
func (s *Server) serve(out *streamWriter, who *reader, first *stream.Batch) {
	defer func() {
		if fault := recover(); fault != nil { // as net/http does
			s.log.WithField("stack", string(debug.Stack())).Errorf("a stream of events has failed: %v", fault)
		}
	}()
	who.read(context.Background(), out, first)
}

// read writes to the end.
func (who *reader) read(ctx context.Context, out *streamWriter, b *stream.Batch) {
	defer out.close()
	var err error
	for ; err == nil; b, err = who.next(ctx) {
		if len(b.Frames()) > 0 && out.batch(b, who.format, who.job) != nil {
			return
		}
		b = nil // it may be long until the next
	}
	if err != io.EOF {
		return // what was read is not all
	}
	if who.format == stream.SSE && !who.ended() {
		out.text(stream.AppendRetry(nil, leastRetry+rand.N(spreadRetry)))
	}
	out.end()
}
