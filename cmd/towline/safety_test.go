package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// TestOutputIsSafe runs all commands on texts with control characters. They print
// none of them.
func TestOutputIsSafe(t *testing.T) {
	t.Run("engine", func(t *testing.T) {
		host, engine, _ := startDaemon(t)
		said, err := json.Marshal(nasty)
		if err != nil {
			t.Fatal(err)
		}
		engine.Script("evil", func(p *enginetest.Pull) {
			p.Line(`{"status":` + string(said) + `,"id":` + string(said) + `}`)
			p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":` + string(said) + `}`)
			p.Line(`{"status":` + string(said) + `}`)
			p.Line(`{"errorDetail":{"message":` + string(said) + `},"error":` + string(said) + `}`)
		})
		engine.Script("worse", func(p *enginetest.Pull) { p.Refuse(http.StatusNotFound, "manifest unknown"+nasty) })
		compose := filepath.Join(t.TempDir(), "compose.yaml")
		if err := os.WriteFile(compose, []byte("services: {\"a\\e[2J\": {image: \"a\\e[2J\"}, b: {build: \"\\e[2J\"}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"pull", "--retries", "0", "evil"}, {"pull", "--retries", "0", "evil", "worse"}, {"pull", "-q", "--retries", "0", "evil"}, {"pull", "--json", "--retries", "0", "evil"},
			{"prewarm", "--retries", "0", "evil", "worse"}, {"prewarm", "--json", "--retries", "0", "evil"}, {"run", "evil"}, {"run", "--json", "worse"},
			{"jobs"}, {"jobs", "--json"}, {"jobs", "ls", "--image", nasty[:9]}, {"jobs", "show", nasty[:9]}, {"jobs", "events", "x\u009b"}, {"jobs", "cancel", "x\u202e"},
			{"pull", "alpine\x1b[2J"}, {"prewarm", "alpine\u202e"}, {"run", "alpine\n"}, {"prewarm", "--plan", "alpine\u009b31m"},
			{"prewarm", "-f", compose}, {"prewarm", "-f", "/nowhere/\x1b[2J"}, {nasty[:9]}, {"pull", "--\x1b[2J"}, {"pull", "--host", "unix:///nowhere\x1b[2J", "x"},
		} {
			cmd := itself(t, args...)
			cmd.Env = append(cmd.Env, "TOWLINE_HOST="+host)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			var ended *exec.ExitError // most fail
			if err := cmd.Run(); err != nil && !errors.As(err, &ended) || out.Len()+errs.Len() == 0 {
				t.Errorf("%q says nothing: %v", args, err)
			}
			checkSafe(t, fmt.Sprintf("%q: ", args)+out.String()+errs.String())
		}
	})
	t.Run("daemon", func(t *testing.T) {
		path := filepath.Join(directory(t), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		job := puller.Job{ID: nasty, Kind: puller.JobPull + nasty, State: "failed" + nasty, Phase: "pulling" + nasty, Image: nasty,
			Error: &puller.JobError{Kind: "not_found" + nasty, Message: nasty}}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch e := json.NewEncoder(w); {
			case strings.HasSuffix(r.URL.Path, "/events"):
				e.Encode(puller.Event{Type: "notice", Job: job.ID, Message: nasty})
				e.Encode(puller.Event{Type: "result", Job: job.ID, Result: &job})
			case r.URL.Path == "/v1/jobs":
				e.Encode(map[string]any{"jobs": []puller.Job{job}, "next": nasty})
			case r.URL.Query().Has("dry_run"):
				e.Encode(puller.Plan{Notes: []string{nasty}, Images: []puller.PlannedImage{{Image: nasty, Platform: nasty, Status: nasty, Error: job.Error}}})
			case r.URL.Path == "/readyz":
				w.WriteHeader(http.StatusServiceUnavailable)
				e.Encode(map[string]string{"kind": "engine_unavailable" + nasty, "detail": nasty})
			default:
				e.Encode(job)
			}
		})}
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(l) })
		defer serving.Wait()
		defer server.Close()
		for _, args := range [][]string{
			{"pull", "x"}, {"prewarm", "x"}, {"prewarm", "--plan", "x"}, {"run", "x"}, {"jobs"}, {"jobs", "show", "x"}, {"jobs", "events", "x"}, {"jobs", "cancel", "x"}, {"health"},
		} {
			code, out, err := run(t.Context(), append(args, "--host", "unix://"+path)...)
			if err != nil {
				out += exit.Message(err)
			}
			checkSafe(t, fmt.Sprintf("%q: ", args)+out)
			if out == "" {
				t.Errorf("%q says nothing: %d", args, code)
			}
		}
	})
}
