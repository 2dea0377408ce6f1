package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/puller"
)

// page is the answer of GET /v1/jobs.
type page struct {
	Jobs []puller.Job
	Next string
}

func (d *daemon) list(query string) page {
	d.T.Helper()
	var p page
	d.call("GET", "/v1/jobs"+query, "").Decode(d.T, http.StatusOK, "application/json", &p)
	return p
}

func ids(jobs []puller.Job) []string {
	all := []string{}
	for _, j := range jobs {
		all = append(all, j.ID)
	}
	return all
}

func TestListJobs(t *testing.T) {
	d := start(t)
	if a := d.call("GET", "/v1/jobs", ""); strings.TrimSpace(a.Body) != `{"jobs":[]}` {
		t.Errorf("no jobs are listed as %s", a.Body)
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

// storedJobs is a Service with many jobs, newest first.
type storedJobs struct {
	puller.Service
	t     *testing.T
	jobs  []puller.Job
	calls int
	fail  int // the call that fails, or 0
}

func newStoredJobs(t *testing.T, n, size int) *storedJobs {
	s := &storedJobs{t: t}
	for i := range n {
		s.jobs = append(s.jobs, puller.Job{
			ID: fmt.Sprintf("%026d", n-i), Kind: puller.JobPull, State: puller.StateFailed, Priority: puller.PriorityLow, Image: "docker.io/library/alpine:3.20",
			Error: &puller.JobError{Kind: puller.ErrInternal, Message: strings.Repeat("x", size)},
		})
	}
	return s
}

func (s *storedJobs) Jobs(f puller.Filter) (page []puller.Job, next string, err error) {
	if s.calls++; s.calls == s.fail {
		return nil, "", errors.New("the disk is broken")
	}
	if f.Limit > 32 {
		s.t.Errorf("%d jobs are in memory at once", f.Limit)
	}
	for _, j := range s.jobs {
		if f.Cursor != "" && j.ID >= f.Cursor {
			continue
		}
		if len(page) == f.Limit {
			return page, page[len(page)-1].ID, nil
		}
		page = append(page, j)
	}
	return page, "", nil
}

func TestJobPages(t *testing.T) {
	const maxPage = 256 << 10
	get := func(t *testing.T, s *storedJobs, query string) (p page, size int) {
		t.Helper()
		h := newHandler(t, s, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/jobs"+query, nil))
		size = w.Body.Len()
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 || !strings.HasSuffix(w.Body.String(), "}\n") {
			t.Fatalf("%d, %v in %.200s", w.Code, err, w.Body)
		}
		return p, size
	}
	t.Run("bytes", func(t *testing.T) {
		s := newStoredJobs(t, 1000, 4<<10)
		var got []string
		for cursor := ""; ; {
			p, size := get(t, s, "?limit=1000"+cursor)
			if size > maxPage+200 || len(p.Jobs) < 50 && p.Next != "" {
				t.Errorf("a page has %d jobs in %d bytes", len(p.Jobs), size)
			}
			got = append(got, ids(p.Jobs)...)
			if p.Next == "" {
				break
			}
			cursor = "&cursor=" + p.Next
		}
		if want := ids(s.jobs); !slices.Equal(got, want) {
			t.Errorf("the pages have %d jobs, want %d", len(got), len(want))
		}
	})
	t.Run("limit", func(t *testing.T) {
		s := newStoredJobs(t, 200, 10)
		for query, want := range map[string]int{"": 100, "?limit=1": 1, "?limit=32": 32, "?limit=33": 33, "?limit=199": 199, "?limit=200": 200, "?limit=1000": 200} {
			p, _ := get(t, s, query)
			if !slices.Equal(ids(p.Jobs), ids(s.jobs[:want])) || (p.Next != "") != (want < 200) {
				t.Errorf("%q: %d jobs, next %q", query, len(p.Jobs), p.Next)
			}
		}
	})
	t.Run("large jobs", func(t *testing.T) {
		s := newStoredJobs(t, 2, 2*maxPage)
		p, _ := get(t, s, "")
		if !slices.Equal(ids(p.Jobs), ids(s.jobs[:1])) || p.Next != s.jobs[0].ID {
			t.Errorf("%d jobs, next %q", len(p.Jobs), p.Next)
		}
		if p, _ = get(t, s, "?cursor="+p.Next); !slices.Equal(ids(p.Jobs), ids(s.jobs[1:])) || p.Next != "" {
			t.Errorf("%d jobs, next %q", len(p.Jobs), p.Next)
		}
	})
	t.Run("error", func(t *testing.T) {
		s := newStoredJobs(t, 100, 10)
		s.fail = 2
		p, _ := get(t, s, "")
		if !slices.Equal(ids(p.Jobs), ids(s.jobs[:32])) || p.Next != s.jobs[31].ID {
			t.Errorf("%d jobs, next %q", len(p.Jobs), p.Next)
		}
	})
}

const largeID = "01M8HG4T8Z0YZH5FPKQFF8HVJR"

// largeJobs is a Service with large jobs only.
type largeJobs struct{ puller.Service }

func (largeJobs) Job(id string) (puller.Job, error) {
	return puller.Job{
		ID: id, Kind: puller.JobPrewarm, State: puller.StateFailed, Priority: puller.PriorityNormal,
		Error: &puller.JobError{Kind: puller.ErrInternal, Message: strings.Repeat("x", 6<<20)},
	}, nil
}

func (j largeJobs) Pull(puller.PullRequest) (puller.Job, error) { return j.Job(largeID) }

// blocked is an answer that the client does not read.
type blocked struct {
	*httptest.ResponseRecorder
	writes chan struct{}
	until  chan struct{}
}

func (b blocked) Write(p []byte) (int, error) {
	b.writes <- struct{}{}
	<-b.until
	return len(p), nil
}

func TestLargeAnswers(t *testing.T) {
	const both = "canary-both"
	tokens := authtest.Open(t, authtest.File(t, everyone()+authtest.Listed("both", both, "read, pull")), io.Discard)
	h := newHandler(t, largeJobs{}, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Tokens: tokens})
	request := func(token string) *http.Request {
		r := httptest.NewRequest("GET", "http://localhost/v1/jobs/"+largeID, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		return r
	}
	status := func(token string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(token))
		return w.Code
	}
	writes, until := make(chan struct{}), make(chan struct{})
	var ended sync.WaitGroup
	for range 2 {
		ended.Go(func() { h.ServeHTTP(blocked{httptest.NewRecorder(), writes, until}, request(both)) })
		<-writes
	}
	if got, other := status(both), status(boss); got != http.StatusServiceUnavailable || other != http.StatusOK {
		t.Errorf("with 12 MB not read, the caller gets %d, another one %d", got, other)
	}
	r := httptest.NewRequest("POST", "http://localhost/v1/pulls", strings.NewReader(`{"image":"alpine"}`))
	r.Header.Set("Authorization", "Bearer "+both)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, `"job":"`+largeID+`"`) {
		t.Errorf("an accepted job is answered with %d, %s", w.Code, body)
	}
	close(until)
	go func() {
		for range writes {
		}
	}()
	ended.Wait()
	close(writes)
	if got := status(both); got != http.StatusOK {
		t.Errorf("when all is read, the caller gets %d", got)
	}
}

func TestCancel(t *testing.T) {
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

func TestUnknownRoutes(t *testing.T) {
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
		{"GET", "/ui/nope.js", 404, ""},
		{"POST", "/", 405, "GET, HEAD"},
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
		if a.Header.Get("Allow") != r.allow {
			t.Errorf("%s %s: Allow is %q", r.method, r.path, a.Header.Get("Allow"))
		}
		switch {
		case r.method == "HEAD":
			if a.Status != r.status || a.Body != "" {
				t.Errorf("HEAD %s: %d %q", r.path, a.Status, a.Body)
			}
		case r.status == 404:
			a.problem(t, 404, puller.ErrNotFound)
		default:
			a.problem(t, 405, puller.ErrInvalidRequest)
		}
	}
	if a := d.call("GET", "//v1//jobs?limit=1", ""); a.Status/100 != 3 || a.Header.Get("Location") != "/v1/jobs?limit=1" {
		t.Errorf("a path that is not clean: %d, Location %q", a.Status, a.Header.Get("Location"))
	}
	for _, path := range []string{"/v1/jobs", "/v1/jobs/" + id, "/healthz", "/readyz", "/v1/engine"} {
		if a := d.call("HEAD", path, ""); a.Status != 200 || a.Body != "" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD %s: %d %v %q", path, a.Status, a.Header, a.Body)
		}
	}
}
