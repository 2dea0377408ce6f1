package api

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// streamDocker tells a pull in the lines of Docker's own stream, to the last. It
// begins when there is something to tell: an error before that is an answer of
// its own, as it is with dockerd. A client that goes away takes its job along,
// as with dockerd; what other jobs want goes on.
func (s *Server) streamDocker(w http.ResponseWriter, r *http.Request, id string, image reference.Named) error {
	var begin uint64
	frames, sub, err := s.puller.Watch(id, &begin)
	if err != nil {
		return err
	}
	w.Header().Set("X-Accel-Buffering", "no")
	out := &dockerStream{w: w, image: image}
	// The connection outlives this answer.
	defer http.NewResponseController(w).SetWriteDeadline(time.Time{})
	for {
		var lines []byte
		for i := range frames {
			var e puller.Event
			if err = frames[i].Decode(&e); err != nil {
				break
			}
			if e.Result != nil && e.Result.Error != nil {
				out.fail(lines, problemOfJob(*e.Result))
				return nil
			}
			lines = out.append(lines, &e)
			if e.Result != nil {
				out.write(lines)
				return nil
			}
		}
		if err == nil && len(lines) > 0 {
			err = out.write(lines)
		}
		if err == nil {
			var batch *stream.Batch
			batch, err = sub.Next(r.Context(), heartbeatAfter)
			frames = nil
			if batch != nil {
				frames = batch.Frames()
			}
		}
		switch {
		case errors.Is(err, io.EOF): // before the job's end
			out.fail(nil, problem(puller.Overloaded, "towline is shutting down; job "+id+" goes on when it is back"))
			return nil
		case err != nil: // the client has gone
			s.puller.Cancel(id) // which fails where there is nothing left to cancel
			return nil
		}
	}
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
	out := http.NewResponseController(d.w)
	out.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := d.w.Write(lines); err != nil {
		return err
	}
	return out.Flush()
}

// fail ends the stream with an error, after lines; where nothing has been
// written, the error is all there is. There must be one: clients take an end
// without an error for a good one.
func (d *dockerStream) fail(lines []byte, p Problem) {
	if !d.told {
		writeDockerProblem(d.w, p)
		return
	}
	d.write(stream.AppendDockerError(lines, p.Detail))
}

// append appends the lines for one event: none for most states.
func (d *dockerStream) append(dst []byte, e *puller.Event) []byte {
	switch {
	case e.Layer != nil:
		return stream.AppendDockerLayer(d.begin(dst), *e.Layer)
	case e.Type == "notice":
		return stream.AppendDockerStatus(d.begin(dst), "", e.Message)
	case e.Phase == puller.Pulling:
		return d.begin(dst)
	case e.Result != nil:
		return d.success(d.begin(dst), e.Result.Result)
	}
	return dst
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
	return stream.AppendDockerStatus(dst, id, "Pulling from "+reference.Path(d.image))
}

// success appends the last lines. Scripts read them.
func (d *dockerStream) success(dst []byte, r *puller.Result) []byte {
	if r.Digest != "" {
		dst = stream.AppendDockerStatus(dst, "", "Digest: "+r.Digest)
	}
	words := "Image is up to date for "
	if r.Source == puller.Pulled {
		words = "Downloaded newer image for "
	}
	return stream.AppendDockerStatus(dst, "", "Status: "+words+reference.FamiliarString(d.image))
}
