package contracttest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towline/towline/api/contract/contracttest"
)

const (
	id       = "01M8HG4T8Z0YZH5FPKQFF8HVJR"
	good     = `{"id":"` + id + `","kind":"pull","state":"queued","priority":"normal","created_at":"2026-01-31T00:00:00Z"}`
	problem  = `{"type":"urn:towline:problem:not_found","title":"t","status":404,"detail":"d","kind":"not_found","retryable":false}`
	event    = `{"seq":7,"time":"2026-01-31T00:00:00Z","type":"state","job":"` + id + `","state":"queued"}`
	sseEvent = "id: 7\nevent: state\ndata: " + event + "\n\n"
)

// faults keeps what is reported.
type faults struct {
	testing.TB
	all      []string
	cleanups []func()
}

func (f *faults) Helper()          {}
func (f *faults) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *faults) Error(args ...any) {
	f.all = append(f.all, fmt.Sprint(args...))
}

// answer is what a handler does.
type answer struct {
	status      int
	media, body string
	header      []string
	aborts      bool
}

func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	if a.media != "" {
		w.Header().Set("Content-Type", a.media)
	}
	for i := 0; i < len(a.header); i += 2 {
		w.Header().Set(a.header[i], a.header[i+1])
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
	if a.aborts {
		panic(http.ErrAbortHandler)
	}
}

func TestWrap(t *testing.T) {
	const asJSON, asProblem = "application/json", "application/problem+json"
	stream := []string{"X-Accel-Buffering", "no"}
	pull := func(body string) *http.Request {
		r := httptest.NewRequest("POST", "/v1/pulls?wait=true", strings.NewReader(body))
		r.Header.Set("Content-Type", asJSON)
		return r
	}
	get := func(path string) *http.Request { return httptest.NewRequest("GET", path, nil) }
	ended := answer{200, asJSON, good, []string{"Location", "/v1/jobs/" + id}, false}
	for name, c := range map[string]struct {
		request *http.Request
		answer  answer
		fault   string // "" for none
	}{
		"good":                 {get("/v1/jobs/" + id), answer{200, asJSON, good, nil, false}, ""},
		"good pull":            {pull(`{"image":"alpine","retries":0,"timeout":null}`), ended, ""},
		"good problem":         {get("/v1/jobs/x"), answer{404, asProblem, problem, nil, false}, ""},
		"good refusal":         {get("/v1/nothing"), answer{404, asProblem, problem, nil, false}, ""},
		"good NDJSON":          {get("/v1/events"), answer{200, "application/x-ndjson", event + "\n" + event + "\n", stream, false}, ""},
		"good SSE":             {get("/v1/events"), answer{200, "text/event-stream", sseEvent + "retry: 10\n\n", stream, false}, ""},
		"good Docker":          {get("/v1.41/_ping"), answer{200, "text/plain", "OK", []string{"Api-Version", "1.51"}, false}, ""},
		"cut stream":           {get("/v1/events"), answer{200, "application/x-ndjson", event + "\n" + event[:9], stream, true}, ""},
		"no such route":        {get("/v1/nothing"), answer{200, asJSON, "{}", nil, false}, "has no GET /v1/nothing"},
		"no such method":       {httptest.NewRequest("PUT", "/v1/engine", nil), answer{200, asJSON, "{}", nil, false}, "has no PUT"},
		"versioned":            {get("/v1.41/v1/engine"), answer{200, asJSON, `{"reachable":true}`, nil, false}, "has no GET /v1.41/v1/engine"},
		"status":               {get("/v1/engine"), answer{201, asJSON, `{"reachable":true}`, nil, false}, "no answer 201"},
		"media type":           {get("/v1/engine"), answer{200, "text/plain", `{"reachable":true}`, nil, false}, `is "text/plain"`},
		"unknown field":        {get("/v1/engine"), answer{200, asJSON, `{"reachable":true,"x":1}`, nil, false}, "'x' not allowed"},
		"unknown field inside": {get("/v1/engine"), answer{200, asJSON, `{"reachable":true,"accelerator":{"way":"none","x":1}}`, nil, false}, "'x' not allowed"},
		"missing field":        {get("/v1/engine"), answer{200, asJSON, `{}`, nil, false}, "missing property 'reachable'"},
		"wrong value":          {get("/v1/jobs/" + id), answer{200, asJSON, strings.Replace(good, "queued", "done", 1), nil, false}, "value must be one of"},
		"wrong time":           {get("/v1/jobs/" + id), answer{200, asJSON, strings.Replace(good, "01-31", "31-01", 1), nil, false}, "date-time"},
		"no JSON":              {get("/v1/engine"), answer{200, asJSON, "{", nil, false}, "no JSON"},
		"problem":              {get("/v1/jobs/x"), answer{404, asProblem, "{}", nil, false}, "missing properties"},
		"refusal":              {get("/v1/nothing"), answer{404, asProblem, "{}", nil, false}, "missing properties"},
		"refusal as text":      {get("/v1/nothing"), answer{404, "text/plain", "404", nil, false}, `"text/plain"`},
		"no header":            {pull(`{"image":"alpine"}`), answer{200, asJSON, good, nil, false}, "no header Location"},
		"wrong header":         {pull(`{"image":"alpine"}`), answer{200, asJSON, good, []string{"Location", "/jobs/1"}, false}, "header Location"},
		"request":              {pull(`{"image":""}`), ended, "accepted, but"},
		"field of a request":   {pull(`{"image":"alpine","x":1}`), ended, "accepted, but"},
		"query":                {get("/v1/engine?x=1"), answer{200, asJSON, `{"reachable":true}`, nil, false}, "no query parameter x"},
		"value in a query":     {get("/v1/jobs?limit=0"), answer{200, asJSON, `{"jobs":[]}`, nil, false}, "limit"},
		"event":                {get("/v1/events"), answer{200, "application/x-ndjson", event + "\n" + strings.Replace(event, "queued", "x", 1) + "\n", stream, false}, "value must be one of"},
		"type of an event":     {get("/v1/events"), answer{200, "application/x-ndjson", strings.Replace(event, `"state",`, `"x",`, 1) + "\n", stream, false}, `no "x"`},
		"end of a stream":      {get("/v1/events"), answer{200, "application/x-ndjson", event, stream, false}, "ends within"},
		"SSE":                  {get("/v1/events"), answer{200, "text/event-stream", strings.Replace(sseEvent, "id: 7", "id: 8", 1), stream, false}, `id "8"`},
		"line of Docker":       {httptest.NewRequest("POST", "/images/create?fromImage=a", nil), answer{200, asJSON, `{"x":1}` + "\r\n", nil, false}, "'x' not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &faults{}
			h := contracttest.Wrap(f, c.answer)
			func() {
				defer func() { recover() }()
				h.ServeHTTP(httptest.NewRecorder(), c.request)
			}()
			for _, cleanup := range f.cleanups {
				cleanup()
			}
			all := strings.Join(f.all, "\n")
			if (all == "") != (c.fault == "") || !strings.Contains(all, c.fault) {
				t.Errorf("reported is %q, want %q", all, c.fault)
			}
		})
	}
}
