package streams

import (
	"io"
	"net/http"
	"time"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// gap stands in a run's output where some of it is not kept any more.
const gap = "\ntowline: some of the output is missing here\n"

// Output is GET /v1/jobs/{id}/logs: what a run's program prints, as it was
// printed, from where it is kept to the run's end, flushed as it comes. An answer
// that ends before the run's output does is aborted, so that the client sees an
// error.
func (s *Events) Output(w http.ResponseWriter, r *http.Request) error {
	id, only := r.PathValue("id"), puller.Output(r.URL.Query().Get("stream"))
	switch only {
	case "", puller.Stdout, puller.Stderr:
	default:
		return input.Invalid("stream: %q is neither stdout nor stderr", only)
	}
	job, err := s.puller.Job(id)
	if err != nil {
		return err
	}
	if job.Kind != puller.JobRun {
		return puller.Errorf(puller.ErrNotFound, "job %s is a %s, which prints nothing; a run does", id, job.Kind)
	}
	var begin uint64
	frames, sub, err := s.puller.Watch(id, &begin)
	if err != nil {
		return err
	}
	w.Header().Set("X-Content-Type-Options", "nosniff") // it is anything
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", answers.PlainText)
		return nil
	}
	out, err := connections.NewWriter(w, answers.PlainText)
	var buf []byte
	whole := false // the result has been read
	for err == nil {
		buf = buf[:0]
		for i := range frames {
			whole = whole || frames[i].Type == "result"
			if frames[i].Type == "notice" && frames[i].Seq == 0 {
				buf = append(buf, gap...)
			}
			if frames[i].Type != "log" {
				continue
			}
			var e puller.Event
			if frames[i].Decode(&e) != nil || e.Text == nil || only != "" && e.Stream != only {
				continue
			}
			if text, err := e.Bytes(); err == nil {
				buf = append(buf, text...)
			}
		}
		if out.Text(buf) != nil {
			break
		}
		var b *stream.Batch
		if b, err = sub.Next(r.Context(), time.Hour); b != nil {
			frames = b.Frames()
		} else {
			frames = nil
		}
	}
	if err != io.EOF || !whole {
		panic(http.ErrAbortHandler)
	}
	return nil
}
