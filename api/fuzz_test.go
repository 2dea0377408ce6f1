package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
)

// fuzzed is an API over an engine that has no images.
type fuzzed struct {
	handler http.Handler
	puller  *jobs.Service
}

func startFuzzed(f *testing.F) fuzzed {
	engine := enginetest.New(f)
	e, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: engine.Dial})
	if err != nil {
		f.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(&apitest.Log{})
	log.SetLevel(logrus.ErrorLevel)
	p, err := jobs.New(e, jobs.Options{
		Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), Log: log,
		OutputDir: f.TempDir(), OutputLimit: 1 << 20,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		p.Close(context.Background())
		e.Close()
	})
	return fuzzed{newHandler(f, p, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Runs: true, Open: true}), p}
}

// post sends a request, whose answer must be a job or a refusal, waits for the job
// to end, and returns it.
func (f fuzzed) post(t *testing.T, path, body string, header http.Header) (job puller.Job, accepted bool) {
	t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header = header
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	a := answer{apitest.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}}
	if a.Status != http.StatusAccepted {
		if p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); len(p.Detail) > 2100 || strings.IndexFunc(p.Detail, unsafe) >= 0 {
			t.Errorf("%.100q is refused with %d bytes, %.600q", body, len(p.Detail), p.Detail)
		}
		return puller.Job{}, false
	}
	job = a.job(t, http.StatusAccepted)
	if u, err := url.Parse(w.Header().Get("Location")); err != nil || u.Path != "/v1/jobs/"+job.ID {
		t.Errorf("the location is %q", w.Header().Get("Location"))
	}
	for _, image := range append([]string{job.Image}, imagesOf(job)...) {
		if named, err := puller.ParseReference(image); image != "" && (err != nil || named.String() != image) {
			t.Errorf("%q was accepted as %q, which is not in full form: %v", body, image, err)
		}
	}
	if _, err := f.puller.Wait(t.Context(), job.ID); err != nil { // so that jobs do not pile up
		t.Error(err)
	}
	return job, true
}

func imagesOf(j puller.Job) (images []string) {
	for _, s := range j.Images {
		images = append(images, s.Image)
	}
	return images
}

func FuzzCreatePull(f *testing.F) {
	for _, body := range []string{
		`{"image":"alpine:3.20","platform":"linux/arm64/v8","policy":"always","priority":"low","timeout":"90s","retries":3}`,
		`{"image":"localhost:5000/a/b@sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"}`,
		`{"image":"a","timeout":1}`, `{"image":null} {}`, `[`, `null`, `{"image":"a","x":1}`, "{\"image\":\"\\u0000\"}",
	} {
		f.Add([]byte(body), "application/json", "")
	}
	f.Add([]byte(`{"image":"a"}`), "application/json; charset=utf-8", apitest.RegistryAuth("ada", "x"))
	d := startFuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte, contentType, auth string) {
		job, ok := d.post(t, "/v1/pulls", string(body), http.Header{"Content-Type": {contentType}, "X-Registry-Auth": {auth}})
		if ok && job.Image == "" {
			t.Errorf("%q was accepted without an image", body)
		}
	})
}

// What runs is asked for by name, and by no name that opens the host.
func FuzzCreateRun(f *testing.F) {
	for _, body := range []string{
		`{"image":"a","cmd":["x"],"entrypoint":[],"env":{"A":"b"},"workdir":"/","user":"1","tty":true,"network":"none","memory":"512m","cpus":0.5,"pids":10,"timeout":"1m"}`,
		`{"image":"a","memory":1e300}`, `{"image":"a","privileged":true}`, `{"image":"a","network":"host"}`, `{"image":"a","Network":"host"}`, `{"image":"a","env":{"":""}}`, `{"image":"a","cpus":-0}`, `null`, `[]`,
	} {
		f.Add([]byte(body))
	}
	d := startFuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		d.post(t, "/v1/runs", string(body), http.Header{"Content-Type": {"application/json"}})
	})
}

func FuzzCreatePrewarm(f *testing.F) {
	for _, body := range []string{`{"images":["a",{"image":"b:1","platform":"linux/arm64"}],"fail_fast":true}`, `{"images":[]}`, `{"images":[{"images":["a"]}]}`, `{"images":null}`, `[`} {
		f.Add([]byte(body), "application/json", "")
	}
	for _, body := range []string{"services: {a: {image: a}, b: {build: .}}", "services: {a: {image: '${X:-b}'}}", "services: &a {a: *a}", "include: [/etc/passwd]", "a: [", "services: {a: {image: a, env_file: /etc/passwd}}"} {
		f.Add([]byte(body), "application/yaml", "var=X=y&profile=p&policy=never&fail_fast=true")
	}
	d := startFuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte, contentType, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		// In one way of three: the others answer with something else.
		for _, other := range []string{"dry_run", "wait"} {
			values.Del(other)
		}
		d.post(t, "/v1/prewarms?"+values.Encode(), string(body), http.Header{"Content-Type": {contentType}})
	})
}

// As Docker's clients name an image: what is asked of the engine is one image in
// full form, or nothing.
func FuzzDockerReference(f *testing.F) {
	const digest = "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"
	for _, seed := range [][2]string{
		{"alpine", "3.20"}, {"alpine", ""}, {"alpine:3.20", ""}, {"alpine:3.20", "v1"}, {"localhost:5000/a", digest}, {"a@" + digest, digest}, {"a@" + digest, "x"},
		{"", "x"}, {"a", "x@" + digest}, {"a", ":"}, {"a", "@"}, {"a b", "c"}, {"\u0430lpine", "v1"}, {"a", "v\n1"}, {"[::1]:5000/x", "y"},
	} {
		f.Add(seed[0], seed[1], "")
	}
	f.Add("alpine", "v1", "linux/arm64")
	d := startFuzzed(f)
	f.Fuzz(func(t *testing.T, image, tag, platform string) {
		query := url.Values{"fromImage": {image}, "tag": {tag}, "platform": {platform}}
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, httptest.NewRequest("POST", "/v1.41/images/create?"+query.Encode(), nil))
		id, made := strings.CutPrefix(w.Header().Get("Location"), "/v1/jobs/")
		if !made {
			if w.Code != http.StatusBadRequest && w.Code != http.StatusRequestURITooLong {
				t.Errorf("%q, %q, %q: %d %s", image, tag, platform, w.Code, w.Body)
			}
			return
		}
		job, err := d.puller.Wait(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if named, err := puller.ParseReference(job.Image); err != nil || named.String() != job.Image {
			t.Errorf("%q, %q was taken for %q: %v", image, tag, job.Image, err)
		}
		if name, _, _ := strings.Cut(job.Image, "@"); tag != "" && !strings.HasSuffix(name, ":"+tag) && !strings.HasSuffix(job.Image, "@"+tag) {
			t.Errorf("%q, %q was taken for %q", image, tag, job.Image)
		}
	})
}
