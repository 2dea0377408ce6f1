package api

import (
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

const (
	heartbeatAfter = 15 * time.Second
	// writeLimit is how long one write may take: a reader that takes nothing
	// for so long is disconnected, and can resume.
	writeLimit = 30 * time.Second
)

// format is how events are written.
type format struct {
	media  string
	append func(f *stream.Frame, dst []byte, job string) []byte
}

var (
	ndjson = &format{"application/x-ndjson", (*stream.Frame).AppendNDJSON}
	sse    = &format{"text/event-stream", (*stream.Frame).AppendSSE}
)

// streamFormat returns the format of events that the caller accepts, nil where
// it accepts none by name.
func streamFormat(r *http.Request) *format {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil || params["q"] == "0" {
				continue
			}
			for _, f := range []*format{ndjson, sse} {
				if media == f.media {
					return f
				}
			}
		}
	}
	return nil
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
	format := streamFormat(r)
	if format == nil {
		format = ndjson
	}
	return s.streamJob(w, r, r.PathValue("id"), after, interval, format)
}

// streamJob writes a job's events to the last, each batch flushed. It returns
// an error only before the first byte.
func (s *Server) streamJob(w http.ResponseWriter, r *http.Request, id string, since *uint64, every time.Duration, f *format) error {
	frames, sub, err := s.puller.Watch(id, since)
	if err != nil {
		return err
	}
	sub.Every = every
	w.Header().Set("Content-Type", f.media)
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return nil // a body that is dropped would hold the connection to the job's end
	}
	out := http.NewResponseController(w)
	// The connection outlives this answer.
	defer out.SetWriteDeadline(time.Time{})
	var buf []byte
	for {
		buf = buf[:0]
		for i := range frames {
			buf = f.append(&frames[i], buf, id)
		}
		out.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := w.Write(buf); err != nil {
			return nil
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		frames, err = sub.Next(r.Context(), heartbeatAfter)
		if err != nil {
			return nil // the end, or the reader has gone
		}
		if len(frames) == 0 {
			frames = []stream.Frame{puller.HeartbeatFrame(id)}
		}
	}
}
