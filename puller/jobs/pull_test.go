package jobs_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestPull(t *testing.T) {
	t.Parallel()
	t.Run("states", testPullStates)
	t.Run("result", testPullResult)
	t.Run("layers done", testPullLayersDone)
	t.Run("event forms", testPullEventForms)
}

func testPullStates(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		j := d.pullAlways(good)
		if j.State != puller.StateQueued || j.ID == "" || !j.FinishedAt.IsZero() {
			d.Errorf("a job that was just accepted: %+v", j)
		}
		events := d.events(j)
		want := []string{
			"state queued", "state active/resolving", "state active/pulling", "state active/verifying", "state succeeded", "result",
		}
		if got := numbered(events); !slices.Equal(got, want) {
			d.Errorf("the numbered events are %q", got)
		}
		last := events[len(events)-1]
		if last.Type != "result" || last.Result == nil {
			d.Fatalf("the last event is %+v", last)
		}
		ended := d.end(j)
		a, _ := json.Marshal(last.Result)
		b, _ := json.Marshal(ended)
		if !bytes.Equal(a, b) {
			d.Errorf("the result event carries\n%s\nand the job is\n%s", a, b)
		}
		layers := map[string]string{}
		for _, e := range events {
			if e.Layer != nil {
				layers[e.Layer.ID] = e.Layer.Phase.String()
			}
		}
		if len(layers) != 2 || layers["aaaaaaaaaaaa"] != "complete" || layers["bbbbbbbbbbbb"] != "complete" {
			d.Errorf("before the result the layers were last told as %v", layers)
		}
	})
}

func testPullResult(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		image := enginetest.NewImage(good, 7)
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Wait(2 * time.Second)
			p.Line(`{"status":"Already exists","progressDetail":{},"id":"cccccccccccc"}`)
			p.Wait(3 * time.Second)
			enginetest.Serve(image)(p)
		})
		began := time.Now()
		j := d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: "linux/amd64", Priority: puller.PriorityHigh}), puller.SourcePulled)
		if j.Kind != "pull" || j.Image != good || j.Platform != "linux/amd64" || j.Policy != puller.PolicyMissing || j.Priority != puller.PriorityHigh || j.Attempt != 1 || j.Phase != "" || j.Error != nil {
			d.Errorf("the job is %+v", j)
		}
		if !j.CreatedAt.Equal(began) || !j.StartedAt.Equal(began) || j.FinishedAt.Sub(began) != 5*time.Second {
			d.Errorf("the times are %s, %s, %s", j.CreatedAt, j.StartedAt, j.FinishedAt)
		}
		want := puller.Result{ImageID: image.ID, Digest: enginetest.Digest(image), Size: 2000, Source: puller.SourcePulled, Downloaded: 2000, DurationSeconds: 5}
		if *j.Result != want {
			d.Errorf("the result is %+v, not %+v", *j.Result, want)
		}
		if p := j.Progress; p == nil || p.Layers != 3 || p.LayersDone != 3 || p.LayersExisting != 1 || p.Downloaded != 2000 || p.Extracted != 2000 || p.Total != 2000 {
			d.Errorf("the progress is %+v", p)
		}
	})
}

// Podman never calls a layer complete.
func testPullLayersDone(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.Script(good, func(p *enginetest.Pull) {
			for _, id := range []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb"} {
				p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"` + id + `"}`)
			}
			enginetest.ServeAsPodman(enginetest.NewImage(good, 1))(p)
		})
		d.engine.UsePodman()
		j := d.succeeded(d.pullAlways(good), puller.SourcePulled)
		if p := j.Progress; p.LayersDone != 3 || p.Downloaded != 2000 || j.Result.Downloaded != 2000 {
			d.Errorf("the progress is %+v, and %d were downloaded", p, j.Result.Downloaded)
		}
		last := make(map[string]string) // a reader may have been told earlier ones, too
		for _, e := range d.events(j) {
			if e.Layer != nil {
				last[e.Layer.ID] = e.Layer.Phase.String()
			}
		}
		for id, phase := range last {
			if phase != "complete" {
				d.Errorf("the layer %s was last told as %s", id, phase)
			}
		}
	})
}

// The wire contract: one golden file with an event of every type.
func testPullEventForms(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		image := enginetest.NewImage(good, 7)
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(`{"status":"the engine's <warning>"}`)
			p.Wait(1500 * time.Millisecond)
			enginetest.Serve(image)(p)
		})
		d.engine.Script(other, func(p *enginetest.Pull) { p.Fail("toomanyrequests: slow down") })
		var got strings.Builder
		for _, r := range []puller.PullRequest{
			{Image: good, Platform: "linux/amd64"},
			{Image: other, Policy: puller.PolicyAlways, Priority: puller.PriorityLow, Retries: new(int)},
			{Image: good}, // present by now
		} {
			j := d.submit(r)
			d.end(j)
			for _, line := range d.lines(j) {
				got.WriteString(strings.ReplaceAll(line, j.ID, "JOB"))
			}
		}
		beat := puller.HeartbeatFrame("JOB")
		got.Write(stream.NDJSON.Append(nil, &beat, "JOB"))
		checkGolden(d.T, "events.ndjson", got.String())
	})
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; got:\n%s", file, got)
	}
}
