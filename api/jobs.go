package api

import (
	"net/http"
	"strconv"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

// jobList is the answer of GET /v1/jobs.
type jobList struct {
	Jobs []puller.Job `json:"jobs"`
	Next string       `json:"next,omitempty"` // the cursor of the next page
}

func (s *Server) listJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f := puller.Filter{
		State:  puller.State(q.Get("state")),
		Kind:   puller.JobKind(q.Get("kind")),
		Image:  q.Get("image"),
		Cursor: q.Get("cursor"),
	}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n == 0 {
			return invalid("limit: %q is not a number above 0", v)
		}
		f.Limit = n
	}
	jobs, next, err := s.puller.Jobs(f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, jobList{jobs, next})
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) error {
	job, err := s.puller.Job(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, job)
}

// cancelJob asks for the scope that having such a job done asks for.
func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) error {
	job, err := s.puller.Job(r.PathValue("id"))
	if err != nil {
		return err
	}
	scope := auth.ScopePull
	if job.Kind == puller.JobRun {
		scope = auth.ScopeRun
	}
	who, _ := auth.CallerOf(r)
	if err := who.Need(scope); err != nil {
		return err
	}
	job, err = s.puller.Cancel(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, job)
}
