package api

import (
	"net/http"

	"github.com/towline/towline/puller"
)

// createPull is POST /v1/pulls. The job is the caller's, but it does not end
// with the caller: whoever goes away before its end leaves it to run.
func (s *Server) createPull(w http.ResponseWriter, r *http.Request) error {
	var request puller.PullRequest
	if err := decodeBody(w, r, &request); err != nil {
		return err
	}
	var err error
	if request.Credentials, err = puller.ParseCredentials(r.Header.Get("X-Registry-Auth")); err != nil {
		return err
	}
	request.IdempotencyKey = r.Header.Get("Idempotency-Key")
	waits, err := wait(r)
	if err != nil {
		return err
	}
	interval, err := every(r)
	if err != nil {
		return err
	}
	job, err := s.puller.Submit(request)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/jobs/"+job.ID)
	if format := streamFormat(r); format != nil {
		return s.streamJob(w, r, job.ID, nil, interval, format)
	}
	if !waits {
		return writeJSON(w, http.StatusAccepted, job)
	}
	job, err = s.puller.Wait(r.Context(), job.ID)
	switch {
	case r.Context().Err() != nil:
		return nil // the caller has gone
	case err != nil:
		p := problemOf(err)
		p.Job = job.ID
		writeProblem(w, p)
		return nil
	case job.Error != nil:
		writeProblem(w, problemOfJob(job))
		return nil
	}
	return writeJSON(w, http.StatusOK, job)
}
