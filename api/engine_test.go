package api_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

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

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		d.held("slow.test/a:v1")
		slow := d.pull("slow.test/a:v1")
		d.call("POST", "/v1/pulls", `{"image": "slow.test/a:v1", "platform": "linux/arm64", "priority": "high"}`)
		synctest.Wait() // until both have come as far as they can
		var got puller.QueueState
		d.call("GET", "/v1/queue", "").Decode(t, http.StatusOK, "application/json", &got)
		want := puller.QueueState{
			Slots: 8, PerRegistry: 8, Fetching: 1, Queued: puller.Queued{High: 1},
			Waiting:    []puller.WaitingTransfer{{Image: "slow.test/a:v1", Platform: "linux/arm64", Registry: "slow.test", Priority: "high", Reason: "other_platform"}},
			Registries: []puller.RegistryState{{Registry: "slow.test", Fetching: 1, Waiting: 1}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		d.call("DELETE", "/v1/jobs/"+slow.ID, "")
		d.call("GET", "/v1/queue?limit=1", "").problem(t, 400, puller.ErrInvalidRequest)
	})
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
		`towline_jobs_total{error="",kind="pull",source="pulled",state="succeeded"} 1`,
		`towline_jobs_total{error="not_found",kind="pull",source="",state="failed"} 1`,
		`towline_job_duration_seconds_count{kind="pull",state="succeeded"} 1`,
		`towline_job_queue_seconds_count{kind="pull"} 2`,
		`towline_jobs_active{kind="pull"} 0`,
		"towline_jobs_unended 0",
		"towline_engine_up 1",
		"towline_store_up 1",
		`towline_transfer_jobs_total{transfer="new"} 2`,
		`towline_transfers_waiting 0`,
		"towline_transfer_slots 8",
		`towline_image_bytes_total{origin="engine"} 2000`,
		`towline_pull_phase_seconds_count{phase="verifying"} 1`,
		`towline_http_requests_total{route="POST /v1/pulls",status="2xx"} 2`,
		"towline_http_requests_in_flight 1",
		`towline_http_request_duration_seconds_count{route="POST /v1/pulls"} 2`,
		`towline_http_request_duration_seconds_count{route="GET /v1/jobs/{id}/events"} 0`,
		"towline_event_readers 0",
	} {
		if !strings.Contains(a.Body, want+"\n") {
			t.Errorf("%s is not in\n%s", want, a.Body)
		}
	}
}

// What has not happened yet is 0, not absent: else a rate or an alert would miss the first.
func TestMetricsFromTheStart(t *testing.T) {
	d := start(t)
	series := func() map[string]bool {
		all := make(map[string]bool)
		for line := range strings.Lines(d.call("GET", "/metrics", "").Body) {
			if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "towline_") {
				all[name] = true
			}
		}
		return all
	}
	before := series()
	d.good("alpine", 1)
	d.ended(d.pull("alpine").ID)
	d.ended(d.pull("registry.test/nope:v1").ID)
	d.held("slow.test/a:v1")
	slow := d.pull("slow.test/a:v1")
	d.call("POST", "/v1/prewarms?wait=true", `{"images":["alpine"]}`)
	d.call("DELETE", "/v1/jobs/"+slow.ID, "")
	d.call("GET", "/nowhere", "")
	d.call("GET", "/version", "")
	for name := range series() {
		// How often an engine answers with which status is not known before.
		if !before[name] && !strings.HasPrefix(name, "towline_engine_calls_total") && !strings.HasPrefix(name, "towline_engine_first_byte_seconds") {
			t.Errorf("%s was not there at the start", name)
		}
	}
	if len(before) > 1500 {
		t.Errorf("there are %d series", len(before))
	}
	d.Engine.Kill()
	if a := d.call("GET", "/metrics", ""); !strings.Contains(a.Body, "towline_engine_up 0\n") {
		t.Errorf("without an engine, the metrics are\n%s", a.Body)
	}
}
