package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

func TestEngine(t *testing.T) {
	d := start(t)
	var info map[string]any
	d.call("GET", "/v1/engine", "").Decode(t, http.StatusOK, "application/json", &info)
	for name, want := range map[string]any{"name": "Docker Engine", "version": "20.10.24", "api_version": "1.41", "image_store": "overlay2", "platform": "linux/amd64", "reachable": true} {
		if info[name] != want {
			t.Errorf("%s is %v, want %v", name, info[name], want)
		}
	}
	if a := d.call("GET", "/readyz", ""); a.Status != http.StatusOK {
		t.Errorf("ready is %d %s", a.Status, a.Body)
	}
	d.Engine.Kill()
	var gone puller.EngineInfo
	d.call("GET", "/v1/engine", "").Decode(t, http.StatusOK, "application/json", &gone)
	if gone.Reachable {
		t.Errorf("an engine that is gone is %+v", gone)
	}
	d.call("GET", "/readyz", "").problem(t, 503, puller.ErrEngineUnavailable)
	if a := d.call("GET", "/healthz", ""); a.Status != http.StatusOK {
		t.Errorf("without its engine the daemon is not alive: %d %s", a.Status, a.Body)
	}
	d.Engine.Revive()
	if a := d.call("GET", "/readyz", ""); a.Status != http.StatusOK {
		t.Errorf("when the engine is back, ready is %d %s", a.Status, a.Body)
	}
}

func TestMetrics(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	d.ended(d.pull("alpine").ID)
	d.ended(d.pull("registry.test/nope:v1").ID)
	a := d.call("GET", "/metrics", "")
	if a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d, %s", a.Status, a.Header.Get("Content-Type"))
	}
	for _, want := range []string{
		`towline_jobs_total{error="",source="pulled",state="succeeded"} 1`,
		`towline_jobs_total{error="not_found",source="",state="failed"} 1`,
		"towline_jobs_unended 0",
	} {
		if !strings.Contains(a.Body, want+"\n") {
			t.Errorf("%s is not in\n%s", want, a.Body)
		}
	}
}
