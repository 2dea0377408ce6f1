package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
)

const (
	// maxPage is how many bytes of jobs a page has, unless a single job is larger.
	maxPage = 256 << 10
	// jobsAtOnce is how many jobs of a page are in memory at once.
	jobsAtOnce = 32
)

// listJobs is GET /v1/jobs. It reads and writes a page in parts, so a client that
// reads slowly holds little memory.
func (s *Server) listJobs(w http.ResponseWriter, r *http.Request) error {
	filter, err := jobFilter(r)
	if err != nil {
		return err
	}
	limit := filter.Limit
	filter.Limit = min(limit, jobsAtOnce)
	jobs, next, err := s.puller.Jobs(filter)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	page := jobPage{out: bufio.NewWriter(w)}
	page.out.WriteString(`{"jobs":[`)
	whole := page.add(jobs)
	for whole && next != "" && page.count < limit {
		filter.Cursor, filter.Limit = next, min(limit-page.count, jobsAtOnce)
		if jobs, next, err = s.puller.Jobs(filter); err != nil {
			whole = false // the next page is answered with the error
			break
		}
		whole = page.add(jobs)
	}
	page.out.WriteByte(']')
	if !whole || next != "" {
		fmt.Fprintf(page.out, `,"next":%q`, page.last)
	}
	page.out.WriteString("}\n")
	page.out.Flush() // an error says that the client has gone
	return nil
}

// jobPage writes the jobs of a page.
type jobPage struct {
	out   *bufio.Writer
	size  int // of the jobs, in bytes
	count int
	last  string // the ID of the last job
}

// add writes jobs. It returns false if the page has no room for all of them, or the
// client has gone.
func (p *jobPage) add(jobs []puller.Job) bool {
	for _, job := range jobs {
		raw, err := json.Marshal(job)
		if err != nil || p.count > 0 && p.size+len(raw) > maxPage {
			return false
		}
		if p.count > 0 {
			p.out.WriteByte(',')
		}
		if _, err := p.out.Write(raw); err != nil {
			return false
		}
		p.size += len(raw)
		p.count++
		p.last = job.ID
	}
	return true
}

// jobFilter reads the query of GET /v1/jobs.
func jobFilter(r *http.Request) (puller.Filter, error) {
	q := r.URL.Query()
	f := puller.Filter{
		State:  puller.State(q.Get("state")),
		Kind:   puller.JobKind(q.Get("kind")),
		Image:  q.Get("image"),
		Cursor: q.Get("cursor"),
	}
	limit, err := input.Limit(r)
	if err != nil {
		return f, err
	}
	f.Limit = limit
	return f, f.Check()
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) error {
	job, err := s.puller.Job(r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, job)
}

// cancelJob is DELETE /v1/jobs/{id}. It needs the scope that creates such a job.
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
	return s.writeJSON(w, r, http.StatusOK, job)
}
