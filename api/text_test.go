package api_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// asText is a header of callers who read answers themselves.
var asText = []string{"Accept", "text/plain"}

// lines checks that an answer is text of a status, and that a pattern matches it whole.
func lines(t *testing.T, a answer, status int, pattern string) {
	t.Helper()
	if got := a.Header.Get("Content-Type"); a.Status != status || got != "text/plain; charset=utf-8" {
		t.Errorf("the answer is %d, %s, not %d:\n%s", a.Status, got, status, a.Body)
	}
	if !regexp.MustCompile(`\A(?:` + pattern + `)\z`).MatchString(a.Body) {
		t.Errorf("the lines are\n%s\nwhich do not match\n%s", a.Body, pattern)
	}
}

const (
	anID   = `[0-9A-Z]{26}`
	aTime  = `\d+(\.\d+)?m?s`
	digest = `sha256:[0-9a-f]{64}`
)

func TestText(t *testing.T) {
	d := startRunning(t, enginetest.Print("hello\n", "", 3))
	d.good("registry.test/a:v1", 1)
	d.good("registry.test/b:v1", 2)
	d.Engine.Script("registry.test/lost:v1", play("engine-20.10/tag-not-found"))

	t.Run("pull", func(t *testing.T) {
		lines(t, d.call("POST", "/v1/pulls?wait=true", `{"image":"registry.test/a:v1"}`, asText...), http.StatusOK,
			`registry\.test/a:v1: pulled, `+digest+`, 2\.0 kB\njob `+anID+`: succeeded in `+aTime+`\n`)
		lines(t, d.call("POST", "/v1/pulls?wait=true", `{"image":"registry.test/lost:v1"}`, asText...), http.StatusNotFound,
			`registry\.test/lost:v1: not_found: manifest for .+\nnot_found: "towline explain not_found" says what mends it\njob `+anID+`: failed in `+aTime+`\n`)
		// A slow machine has not heard from the engine before it answers.
		lines(t, d.call("POST", "/v1/pulls", `{"image":"registry.test/a:v1"}`, asText...), http.StatusAccepted,
			`registry\.test/a:v1: present, `+digest+`, .+\njob `+anID+`: succeeded in `+aTime+`\n|registry\.test/a:v1: \w+\njob `+anID+`: \w+\n`)
	})
	t.Run("denied", func(t *testing.T) {
		d.Engine.Script("private.test/a:v1", play("engine-20.10/bad-password"))
		lines(t, d.call("POST", "/v1/pulls?wait=true", `{"image":"private.test/a:v1"}`, asText...), http.StatusForbidden,
			`private\.test/a:v1: denied: .+\ndenied: .+ login for private\.test .+registries\.credentials.+X-Registry-Auth.+docker login\njob `+anID+`: failed in `+aTime+`\n`)
	})
	t.Run("run", func(t *testing.T) {
		a := d.call("POST", "/v1/runs?wait=true", `{"image":"`+program+`"}`, asText...)
		lines(t, a, http.StatusOK, `\S+: the program exited with 3\njob `+anID+`: succeeded in `+aTime+`\n`)
		lines(t, d.call("POST", "/v1/runs", `{"image":"`+program+`"}`, asText...), http.StatusAccepted, `\S+: \w+\njob `+anID+`: \w+\n`)
	})
	t.Run("prewarm", func(t *testing.T) {
		body := `{"images":["registry.test/a:v1","registry.test/lost:v1"]}`
		lines(t, d.call("POST", "/v1/prewarms?wait=true", body, asText...), http.StatusNotFound,
			`registry\.test/a:v1: present\nregistry\.test/lost:v1: not_found: .+\nnot_found: "towline explain not_found" .+\njob `+anID+`: failed in `+aTime+`\n`)
		file := "services: {a: {image: 'registry.test/a:v1'}, b: {image: 'registry.test/b:v1'}, c: {build: .}}"
		lines(t, d.call("POST", "/v1/prewarms?wait=true", file, append(asText, "Content-Type", "application/yaml")...), http.StatusOK,
			`registry\.test/a:v1: present\nregistry\.test/b:v1: pulled\nc: skipped: .+\njob `+anID+`: succeeded in `+aTime+`\n`)
		lines(t, d.call("POST", "/v1/prewarms", body, asText...), http.StatusAccepted, `(registry\.test/\w+:v1: .+\n){2}job `+anID+`: \w+\n`)
	})
	t.Run("plan", func(t *testing.T) {
		file := "services: {a: {image: 'registry.test/a:v1'}, d: {image: 'registry.test/d:v1', platform: linux/arm64}, c: {build: .}}"
		lines(t, d.call("POST", "/v1/prewarms?dry_run=true", file, append(asText, "Content-Type", "application/yaml")...), http.StatusOK,
			`registry\.test/a:v1: present\nregistry\.test/d:v1: missing, size unknown, linux/arm64\nc: skipped: .+\nto download: unknown\nwarning: .+\n`)
	})
	t.Run("errors", func(t *testing.T) {
		lines(t, d.call("POST", "/v1/pulls?wait=true", `{"image":"UPPER"}`, asText...), http.StatusBadRequest, `invalid_request: image: .+\n`)
		lines(t, d.call("GET", "/v1/jobs/x", "", asText...), http.StatusNotFound, `not_found: .+\n`)
		lines(t, d.call("GET", "/nothing", "", asText...), http.StatusNotFound, `not_found: there is no route GET /nothing\n`)
		lines(t, d.guarded().call("GET", "/v1/jobs", "", asText...), http.StatusUnauthorized, `unauthorized: .+\n`)
	})
	t.Run("another form", func(t *testing.T) {
		for accept, media := range map[string]string{
			"":                                    "application/problem+json",
			"*/*":                                 "application/problem+json",
			"text/html":                           "application/problem+json",
			"text/plain;q=0":                      "application/problem+json",
			"application/json, text/plain, */*":   "application/problem+json",
			"text/plain, application/x-ndjson":    "application/problem+json",
			"text/html, text/plain;q=0.9, */*":    "text/plain; charset=utf-8",
			"text/plain ; charset=utf-8, image/*": "text/plain; charset=utf-8",
		} {
			if a := d.call("GET", "/v1/jobs/x", "", "Accept", accept); a.Header.Get("Content-Type") != media {
				t.Errorf("Accept: %s is answered with %s, want %s", accept, a.Header.Get("Content-Type"), media)
			}
		}
	})
}

// foreign is a Service whose jobs have text of others in them.
type foreign struct{ puller.Service }

func (foreign) Prewarm(puller.PrewarmRequest) (puller.Job, error) {
	j := puller.Job{ID: largeID, Kind: puller.JobPrewarm, State: puller.StateActive}
	for range 1000 {
		j.Images = append(j.Images, puller.ImageState{
			Image: "registry.test/a:v1", State: puller.StateFailed,
			Error: &puller.JobError{Kind: puller.ErrDenied, Message: "\x1b[2J\r\nmine: pulled\x00" + strings.Repeat("x", 4096)},
		})
	}
	return j, nil
}

func TestForeignText(t *testing.T) {
	h := newHandler(t, foreign{}, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true})
	r := httptest.NewRequest("POST", "http://localhost/v1/prewarms", strings.NewReader(`{"images":["a"]}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/plain")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body := w.Body.String()
	if n := strings.Count(body, "\n"); len(body) > 70<<10 || n > 40 || strings.ContainsAny(body, "\x1b\r\x00") || !strings.Contains(body, "\nand 9") {
		t.Errorf("the text has %d lines and %d bytes: %.300q", n, len(body), body)
	}
}
