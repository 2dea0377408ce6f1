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

// stream writes a job's events as the lines of a Docker pull, to the last. It writes
// nothing before the first line: an error before that is an answer with a status, as
// it is with dockerd. A client that disconnects cancels its job, as with dockerd. net/http
// keeps the connection, so the disconnect is seen at once.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, id string, image reference.Named) error {
	var begin uint64
	frames, sub, err := h.Service.Watch(id, &begin)
	if err != nil {
		return err
	}
	w.Header().Set("X-Accel-Buffering", "no")
	out := &lineWriter{w: w, image: image, problem: h.Problem}
	for b := stream.NewBatch(frames...); err == nil; b, err = sub.Next(r.Context(), time.Hour) {
		if b == nil {
			continue
		}
		lines := b.Bytes(lineFormat, id)
		if !out.begun && (len(lines) > 0 || slices.ContainsFunc(b.Frames(), isPulling)) {
			lines = append(out.begin(nil), lines...)
		}
		if job := resultIn(b.Frames()); job != nil {
			out.end(lines, job)
			return nil
		}
		if len(lines) > 0 {
			if err = out.write(lines); err != nil {
				break
			}
		}
	}
	if errors.Is(err, io.EOF) { // the stream has ended before the job
		out.fail(nil, puller.Errorf(puller.ErrOverloaded, "towline is shutting down; job %s goes on when it is back", id))
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
	begun   bool // begin has returned the first line
	written bool // the answer has begun
}

// write writes lines and flushes them.
func (l *lineWriter) write(lines []byte) error {
	l.written = true
	l.w.Header().Set("Content-Type", "application/json")
	if _, err := l.w.Write(lines); err != nil {
		return err
	}
	return http.NewResponseController(l.w).Flush()
}

// fail ends the answer with an error, after lines. If nothing has been written, the
// error is the whole answer. Clients take an end without an error for a success.
func (l *lineWriter) fail(lines []byte, err error) {
	p := l.problem(err)
	if !l.written {
		p.Write(l.w)
		return
	}
	l.write(appendError(lines, p.Message))
}

// end ends the answer with the result of a job, after lines.
func (l *lineWriter) end(lines []byte, j *puller.Job) {
	if e := j.Error; e != nil {
		after := time.Duration(e.RetryAfterSeconds * float64(time.Second))
		l.fail(lines, &puller.Error{Kind: e.Kind, RetryAfter: after, Err: errors.New(e.Message)})
		return
	}
	l.write(l.success(l.begin(lines), j.Result))
}

// begin appends the first line, once.
func (l *lineWriter) begin(dst []byte) []byte {
	if l.begun {
		return dst
	}
	l.begun = true
	id := l.image.String()
	if tagged, ok := l.image.(reference.Tagged); ok {
		id = tagged.Tag()
	}
	return appendStatus(dst, id, "Pulling from "+reference.Path(l.image))
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
