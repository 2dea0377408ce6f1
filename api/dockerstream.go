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
	sub.Every = leastEvery
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	// The connection outlives this answer.
	defer out.SetWriteDeadline(time.Time{})
	told := false
	tell := func(lines []byte) error {
		told = true
		w.Header().Set("Content-Type", "application/json")
		out.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := w.Write(lines); err != nil {
			return err
		}
		return out.Flush()
	}
	lines := dockerLines{image: image}
	for {
		var buf []byte
		var result *puller.Job
		for i := range frames {
			var e puller.Event
			if err := frames[i].Decode(&e); err != nil {
				return err
			}
			buf, result = lines.append(buf, &e), e.Result
		}
		if result != nil && result.Error != nil && !told {
			writeDockerProblem(w, problemOfJob(*result))
			return nil
		}
		if len(buf) > 0 {
			err = tell(buf)
		}
		if result != nil {
			return nil
		}
		if err == nil {
			frames, err = sub.Next(r.Context(), heartbeatAfter)
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF): // the client has gone
			s.puller.Cancel(id) // which fails where there is nothing left to cancel
			return nil
		case !told:
			return errPaused(id)
		default:
			// Clients take an end without an error for a good one.
			tell(stream.AppendDockerError(nil, errPaused(id).Error()))
			return nil
		}
	}
}

// errPaused is for a stream that ends before its job does.
func errPaused(id string) error {
	return puller.Errorf(puller.Overloaded, "towline is shutting down; job %s goes on when it is back", id)
}

// dockerLines puts a job's events into the lines that dockerd would tell them in.
type dockerLines struct {
	image reference.Named
	begun bool // the first line is there
}

// append appends the lines for one event: none for most states.
func (d *dockerLines) append(dst []byte, e *puller.Event) []byte {
	switch {
	case e.Layer != nil:
		return stream.AppendDockerLayer(d.begin(dst), *e.Layer)
	case e.Type == "notice":
		return stream.AppendDockerStatus(d.begin(dst), "", e.Message)
	case e.Phase == puller.Pulling:
		return d.begin(dst)
	case e.Result == nil:
		return dst
	case e.Result.Error != nil:
		return stream.AppendDockerError(dst, e.Result.Error.Message)
	}
	return d.success(d.begin(dst), e.Result.Result)
}

// begin appends the first line, if it is not there yet.
func (d *dockerLines) begin(dst []byte) []byte {
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
func (d *dockerLines) success(dst []byte, r *puller.Result) []byte {
	if r.Digest != "" {
		dst = stream.AppendDockerStatus(dst, "", "Digest: "+r.Digest)
	}
	words := "Image is up to date for "
	if r.Source == puller.Pulled {
		words = "Downloaded newer image for "
	}
	return stream.AppendDockerStatus(dst, "", "Status: "+words+reference.FamiliarString(d.image))
}
