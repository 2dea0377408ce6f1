package api

import (
	"io"
	"net/http"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/api/streams"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/tracing"
)

// createPull is POST /v1/pulls.
func (s *Server) createPull(w http.ResponseWriter, r *http.Request) error {
	var request puller.PullRequest
	err := input.Body(w, r, &request)
	if err != nil {
		return err
	}
	if request.Credentials, request.IdempotencyKey, err = headers(r); err != nil {
		return err
	}
	request.Caller, request.Rules = input.Caller(r)
	request.TraceParent = tracing.Clean(r.Header.Get("traceparent"))
	return s.submit(w, r, func() (puller.Job, error) { return s.puller.Pull(request) })
}

// headers returns the credentials and the idempotency key of a request for a job.
func headers(r *http.Request) (c puller.Credentials, key string, err error) {
	c, err = puller.ParseCredentials(r.Header.Get("X-Registry-Auth"))
	return c, r.Header.Get("Idempotency-Key"), err
}

// submit creates a job and answers in the way that the caller chose. The job continues if
// the client disconnects.
func (s *Server) submit(w http.ResponseWriter, r *http.Request, accept func() (puller.Job, error)) error {
	waits, err := input.IsTrue(r, "wait")
	if err != nil {
		return err
	}
	interval, err := input.Every(r)
	if err != nil {
		return err
	}
	job, err := accept()
	if err != nil {
		s.audit.Refused(r, err)
		return err
	}
	s.audit.Accepted(r, job)
	w.Header().Set("Location", "/v1/jobs/"+job.ID)
	if media := streams.Media(r); media != "" {
		var begin uint64 // also the events before Watch
		return s.events.StreamJob(w, r, job.ID, &begin, interval, media)
	}
	if !waits {
		s.writeJob(w, r, http.StatusAccepted, job)
		return nil
	}
	job, err = s.puller.Wait(r.Context(), job.ID)
	switch {
	case r.Context().Err() != nil:
		return nil // the client has gone
	case err != nil:
		p := answers.ProblemOf(err)
		p.Job = job.ID
		answers.WriteProblem(w, r, p)
		return nil
	case job.Error != nil:
		answers.WriteProblem(w, r, answers.ProblemOfJob(job))
		return nil
	}
	s.writeJob(w, r, http.StatusOK, job)
	return nil
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", answers.PlainText)
	w.WriteHeader(status)
	io.WriteString(w, text) // an error says that the client has gone
}

// writeJob answers with an accepted job. An error has the job's ID, so that the caller
// does not submit it again.
func (s *Server) writeJob(w http.ResponseWriter, r *http.Request, status int, job puller.Job) {
	if answers.WantsText(r) {
		writeText(w, status, answers.Text(job))
		return
	}
	if err := s.writeJSON(w, r, status, job); err != nil {
		p := answers.ProblemOf(err)
		p.Job = job.ID
		answers.WriteProblem(w, r, p)
	}
}
