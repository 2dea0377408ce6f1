package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

// page is the answer of GET /v1/jobs.
type page struct {
	Jobs []puller.Job
	Next string
}

func (d *daemon) list(query string) page {
	d.t.Helper()
	var p page
	d.call("GET", "/v1/jobs"+query, "").decode(d.t, http.StatusOK, "application/json", &p)
	return p
}

func ids(jobs []puller.Job) []string {
	all := []string{}
	for _, j := range jobs {
		all = append(all, j.ID)
	}
	return all
}

func TestJobsAreListedNewestFirstInPages(t *testing.T) {
	d := start(t)
	if a := d.call("GET", "/v1/jobs", ""); strings.TrimSpace(a.body) != `{"jobs":[]}` {
		t.Errorf("no jobs are listed as %s", a.body)
	}
	d.good("alpine:3.20", 1)
	gate := d.held("busybox")
	defer close(gate)
	var want []string
	for _, image := range []string{"alpine:3.20", "registry.test/nope:v1", "alpine:3.20", "busybox", "alpine:3.20"} {
		id := d.pull(image).ID
		if image != "busybox" {
			d.ended(id)
		}
		want = slices.Insert(want, 0, id)
	}
	d.follow("GET", "/v1/jobs/"+want[1]+"/events", "", ndjson).until(downloading)
	for query, at := range map[string][]int{
		"":                      {0, 1, 2, 3, 4},
		"?kind=pull&limit=1000": {0, 1, 2, 3, 4},
		"?state=succeeded":      {0, 2, 4},
		"?state=failed":         {3},
		"?state=active":         {1},
		"?state=queued":         {},
		"?state=canceled":       {},
		"?image=alpine:3.20":    {0, 2, 4},
		"?image=docker.io/library/busybox:latest&state=active": {1},
		"?image=alpine:3.20&state=failed":                      {},
		"?cursor=" + want[1]:                                   {2, 3, 4},
		"?cursor=" + want[4]:                                   {},
	} {
		chosen := []string{}
		for _, i := range at {
			chosen = append(chosen, want[i])
		}
		if got := d.list(query); !slices.Equal(ids(got.Jobs), chosen) || got.Next != "" {
			t.Errorf("%q: %d jobs, next %q, want %d", query, len(got.Jobs), got.Next, at)
		}
	}
	for _, query := range []string{"?limit=2", "?limit=2&state=succeeded"} {
		var got []string
		for cursor := ""; ; {
			p := d.list(query + cursor)
			if got = append(got, ids(p.Jobs)...); len(p.Jobs) > 2 {
				t.Errorf("%s: a page of %d", query, len(p.Jobs))
			}
			if p.Next == "" {
				break
			}
			cursor = "&cursor=" + p.Next
		}
		all := ids(d.list(strings.Replace(query, "limit=2", "limit=100", 1)).Jobs)
		if !slices.Equal(got, all) {
			t.Errorf("%s: the pages hold %d jobs, want %d", query, len(got), len(all))
		}
	}
}

func TestACancelEndsTheJobAndItsPull(t *testing.T) {
	d := start(t)
	d.held("alpine")
	f := d.follow("POST", "/v1/pulls", `{"image":"alpine"}`, ndjson)
	id := f.until(downloading)[0].Job
	job := d.call("DELETE", "/v1/jobs/"+id, "").job(t, http.StatusOK)
	if job.State != puller.StateCanceled || job.Error == nil || job.Error.Kind != puller.ErrCanceled || job.FinishedAt.IsZero() {
		t.Errorf("the job is %+v", job)
	}
	events := f.rest()
	if last := events[len(events)-1]; last.Type != "result" || last.Result.State != puller.StateCanceled {
		t.Errorf("the last event is %s", last.raw)
	}
	if got := d.call("GET", "/v1/jobs/"+id, "").job(t, http.StatusOK); got.State != puller.StateCanceled {
		t.Errorf("the job is %+v", got)
	}
	p := d.call("DELETE", "/v1/jobs/"+id, "").problem(t, http.StatusConflict, puller.ErrConflict)
	if !strings.Contains(p.Detail, "canceled") {
		t.Errorf("why it is refused is %q", p.Detail)
	}
}

func TestUnknownJobsAndRoutesAreProblems(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	id := d.pull("alpine").ID
	d.ended(id)
	for _, r := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, ""},
		{"GET", "/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/events", 404, ""},
		{"DELETE", "/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, ""},
		{"GET", "/v1/jobs/%0a%1b%5b2J", 404, ""},
		{"GET", "/v1/jobs/", 404, ""},
		{"GET", "/v1/jobs/" + id + "/nope", 404, ""},
		{"GET", "/nope", 404, ""},
		{"GET", "/", 404, ""},
		{"POST", "/v2/pulls", 404, ""},
		{"GET", "/v1/pulls", 405, "POST"},
		{"HEAD", "/v1/pulls", 405, "POST"},
		{"PUT", "/v1/jobs", 405, "GET, HEAD"},
		{"POST", "/v1/jobs/" + id, 405, "DELETE, GET, HEAD"},
		{"DELETE", "/v1/jobs/" + id + "/events", 405, "GET, HEAD"},
		{"POST", "/healthz", 405, "GET, HEAD"},
		{"OPTIONS", "/v1/engine", 405, "GET, HEAD"},
	} {
		a := d.call(r.method, r.path, "")
		if a.header.Get("Allow") != r.allow {
			t.Errorf("%s %s: Allow is %q", r.method, r.path, a.header.Get("Allow"))
		}
		switch {
		case r.method == "HEAD":
			if a.status != r.status || a.body != "" {
				t.Errorf("HEAD %s: %d %q", r.path, a.status, a.body)
			}
		case r.status == 404:
			a.problem(t, 404, puller.ErrNotFound)
		default:
			a.problem(t, 405, puller.ErrInvalidRequest)
		}
	}
	if a := d.call("GET", "//v1//jobs?limit=1", ""); a.status/100 != 3 || a.header.Get("Location") != "/v1/jobs?limit=1" {
		t.Errorf("a path that is not clean: %d, Location %q", a.status, a.header.Get("Location"))
	}
	for _, path := range []string{"/v1/jobs", "/v1/jobs/" + id, "/healthz", "/readyz", "/v1/engine"} {
		if a := d.call("HEAD", path, ""); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD %s: %d %v %q", path, a.status, a.header, a.body)
		}
	}
}
