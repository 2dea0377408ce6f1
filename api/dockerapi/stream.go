package dockerapi

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// holdLimit is how long notices wait for the engine to pull. An image that can't be
// pulled mostly fails sooner. While retries and cool-downs take longer, the client is to
// see why.
const holdLimit = 5 * time.Second

// stream writes a job's events as the lines of a Docker pull, to the last. It writes
// nothing before the engine pulls, but notices after holdLimit: an error before that is
// an answer with a status, as it is with dockerd. A client that disconnects cancels its job, as with dockerd. net/http
// keeps the connection, so the disconnect is seen at once.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, id string, image reference.Named) error {
	var begin uint64
	frames, sub, err := h.Service.Watch(id, &begin)
	if err != nil {
		return err
	}
	w.Header().Set("X-Accel-Buffering", "no")
	out := &lineWriter{w: w, image: image, problem: h.Problem}
	for b := stream.NewBatch(frames...); err == nil; b, err = sub.Next(r.Context(), out.wait()) {
		var events []stream.Frame
		if b != nil {
			events = b.Frames()
			out.lines = append(out.lines, b.Bytes(lineFormat, id)...)
		}
		if job := resultIn(events); job != nil {
			out.end(job)
			return nil
		}
		if err = out.flush(slices.ContainsFunc(events, isPulling)); err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) { // the stream has ended before the job
		out.fail(puller.Errorf(puller.ErrOverloaded, "towline is shutting down; job %s goes on when it is back", id))
		return nil
	}
	// The client has gone. The call fails if the job has ended.
	h.Service.Cancel(id)
	return nil
}

// isPulling reports whether an event says that the engine has begun to pull.
func isPulling(f stream.Frame) bool {
	var e puller.Event
	return f.Type == "state" && f.Decode(&e) == nil && e.Phase == puller.PhasePulling
}

// resultIn returns the ended job that the last event has, or nil.
func resultIn(frames []stream.Frame) *puller.Job {
	var e puller.Event
	if n := len(frames); n == 0 || frames[n-1].Type != "result" || frames[n-1].Decode(&e) != nil {
		return nil
	}
	return e.Result
}

// lineWriter writes an answer to POST /images/create.
type lineWriter struct {
	w       http.ResponseWriter
	image   reference.Named
	problem func(error) Problem
	lines   []byte    // that are not written yet
	due     time.Time // when they are written, even if the engine does not pull
	begun   bool      // the answer has begun
}

// wait returns how long the next event may be waited for.
func (l *lineWriter) wait() time.Duration {
	if len(l.lines) == 0 {
		return time.Hour
	}
	return max(0, time.Until(l.due))
}

// flush writes the lines that are due. pulls says that the engine has begun to pull.
func (l *lineWriter) flush(pulls bool) error {
	switch {
	case len(l.lines) == 0 && (l.begun || !pulls):
		return nil
	case l.begun || pulls:
		return l.write()
	case l.due.IsZero():
		l.due = time.Now().Add(holdLimit)
	}
	if time.Now().Before(l.due) {
		return nil
	}
	return l.write()
}

// write writes the lines, after the first line of a pull, and flushes them.
func (l *lineWriter) write() error {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/json")
		l.lines = append(l.first(), l.lines...)
	}
	_, err := l.w.Write(l.lines)
	l.lines = l.lines[:0]
	if err != nil {
		return err
	}
	return http.NewResponseController(l.w).Flush()
}

// fail ends the answer with an error. If nothing has been written, the error is the
// whole answer. Clients take an end without an error for a success.
func (l *lineWriter) fail(err error) {
	p := l.problem(err)
	if !l.begun {
		p.Write(l.w)
		return
	}
	l.lines = appendError(l.lines, p.Message)
	l.write()
}

// end ends the answer with the result of a job.
func (l *lineWriter) end(j *puller.Job) {
	if e := j.Error; e != nil {
		after := time.Duration(e.RetryAfterSeconds * float64(time.Second))
		l.fail(&puller.Error{Kind: e.Kind, RetryAfter: after, Err: errors.New(e.Message)})
		return
	}
	l.lines = l.success(l.lines, j.Result)
	l.write()
}

// first returns the first line.
func (l *lineWriter) first() []byte {
	id := l.image.String()
	if tagged, ok := l.image.(reference.Tagged); ok {
		id = tagged.Tag()
	}
	return appendStatus(nil, id, "Pulling from "+reference.Path(l.image))
}

// success appends the last lines. Scripts read them.
func (l *lineWriter) success(dst []byte, r *puller.Result) []byte {
	if r.Digest != "" {
		dst = appendStatus(dst, "", "Digest: "+r.Digest)
	}
	status := "Image is up to date for "
	if r.Source == puller.SourcePulled {
		status = "Downloaded newer image for "
	}
	return appendStatus(dst, "", "Status: "+status+reference.FamiliarString(l.image))
}
