package api

import (
	"net/http"
	"time"

	"github.com/towline/towline/puller"
)

// jobLogs is GET /v1/jobs/{id}/logs: what a run's program prints, as it was
// printed, from where it is kept to the run's end, flushed as it comes.
func (s *Server) jobLogs(w http.ResponseWriter, r *http.Request) error {
	id, only := r.PathValue("id"), puller.Output(r.URL.Query().Get("stream"))
	switch only {
	case "", puller.Stdout, puller.Stderr:
	default:
		return invalid("stream: %q is neither stdout nor stderr", only)
	}
	job, err := s.puller.Job(id)
	if err != nil {
		return err
	}
	if job.Kind != puller.KindRun {
		return puller.Errorf(puller.NotFound, "job %s is a %s, which prints nothing; a run does", id, job.Kind)
	}
	var begin uint64
	frames, sub, err := s.puller.Watch(id, &begin)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	w.Header().Set("X-Content-Type-Options", "nosniff") // it is anything
	if r.Method == http.MethodHead {
		return nil
	}
	out := http.NewResponseController(w)
	defer out.SetWriteDeadline(time.Time{})
	var buf []byte
	for {
		buf = buf[:0]
		for i := range frames {
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
		out.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := w.Write(buf); err != nil {
			return nil
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		if frames, err = sub.Next(r.Context(), heartbeatAfter); err != nil {
			return nil
		}
	}
}
