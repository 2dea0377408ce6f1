package api

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// streamDocker tells a pull in the lines of Docker's own stream, to the last. It
// begins when there is something to tell: an error before that is an answer of
// its own, as it is with dockerd. A client that goes away takes its job along,
// as with dockerd; what other jobs want goes on. net/http keeps the connection,
// so that this is seen at once.
func (s *Server) streamDocker(w http.ResponseWriter, r *http.Request, id string, image reference.Named) error {
	var begin uint64
	frames, sub, err := s.puller.Watch(id, &begin)
	if err != nil {
		return err
	}
	w.Header().Set("X-Accel-Buffering", "no")
	out := &dockerStream{w: w, image: image}
	for b := stream.NewBatch(frames...); err == nil; b, err = sub.Next(r.Context(), time.Hour) {
		if b == nil {
			continue
		}
		lines := b.Bytes(stream.Docker, id)
		if !out.begun && (len(lines) > 0 || slices.ContainsFunc(b.Frames(), pulls)) {
			lines = append(out.begin(nil), lines...)
		}
		if e := resultIn(b.Frames()); e != nil {
			out.end(lines, e)
			return nil
		}
		if len(lines) > 0 {
			if err = out.write(lines); err != nil {
				break
			}
		}
	}
	if errors.Is(err, io.EOF) { // before the job's end
		out.fail(nil, problem(puller.ErrOverloaded, "towline is shutting down; job "+id+" goes on when it is back"))
		return nil
	}
	// The client has gone. This fails where there is nothing left to cancel.
	s.puller.Cancel(id)
	return nil
}

// pulls reports whether an event says that the engine has begun to pull.
func pulls(f stream.Frame) bool {
	var e puller.Event
	return f.Type == "state" && f.Decode(&e) == nil && e.Phase == puller.PhasePulling
}

// resultIn returns the job as it has ended, or nil if that is not told yet.
func resultIn(frames []stream.Frame) *puller.Job {
	var e puller.Event
	if n := len(frames); n == 0 || frames[n-1].Type != "result" || frames[n-1].Decode(&e) != nil {
		return nil
	}
	return e.Result
}

// dockerStream writes a job's events as dockerd would tell of a pull.
type dockerStream struct {
	w     http.ResponseWriter
	image reference.Named
	begun bool // the first line is there
	told  bool // something was written
}

// write writes lines and flushes them.
func (d *dockerStream) write(lines []byte) error {
	d.told = true
	d.w.Header().Set("Content-Type", "application/json")
	if _, err := d.w.Write(lines); err != nil {
		return err
	}
	return http.NewResponseController(d.w).Flush()
}

// fail ends the stream with an error, after lines; where nothing has been
// written, the error is all there is. There must be one: clients take an end
// without an error for a good one.
func (d *dockerStream) fail(lines []byte, p Problem) {
	if !d.told {
		writeDockerProblem(d.w, p)
		return
	}
	d.write(pullstream.AppendDockerError(lines, p.Detail))
}

// end ends the stream with how the job has ended, after lines.
func (d *dockerStream) end(lines []byte, j *puller.Job) {
	if j.Error != nil {
		d.fail(lines, problemOfJob(*j))
		return
	}
	d.write(d.success(d.begin(lines), j.Result))
}

// begin appends the first line, if it is not there yet.
func (d *dockerStream) begin(dst []byte) []byte {
	if d.begun {
		return dst
	}
	d.begun = true
	id := d.image.String()
	if tagged, ok := d.image.(reference.Tagged); ok {
		id = tagged.Tag()
	}
	return pullstream.AppendDockerStatus(dst, id, "Pulling from "+reference.Path(d.image))
}

// success appends the last lines. Scripts read them.
func (d *dockerStream) success(dst []byte, r *puller.Result) []byte {
	if r.Digest != "" {
		dst = pullstream.AppendDockerStatus(dst, "", "Digest: "+r.Digest)
	}
	words := "Image is up to date for "
	if r.Source == puller.SourcePulled {
		words = "Downloaded newer image for "
	}
	return pullstream.AppendDockerStatus(dst, "", "Status: "+words+reference.FamiliarString(d.image))
}
