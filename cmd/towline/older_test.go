package main

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/storetest"
)

// TestOlderState serves the state directory of an older build. What had ended is
// answered as that build did; what had not goes on.
func TestOlderState(t *testing.T) {
	c, path := config(t)
	answers := storetest.WriteOlder(t, c.StateDir)
	host, engine := engineSocket(t)
	for _, name := range []string{"web", "held", "locked", "stays", "third", "fourth"} {
		image := "registry.test/team/" + name + ":v1"
		engine.Script(image, enginetest.Serve(enginetest.NewImage(image, 1)))
	}
	c.Engine.Host = host
	c.Runs.Enabled = true
	c.Jobs.KeepFor = 0 // they get older
	startServe(t, c)
	caller, err := client.New("unix://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	highest := uint64(0)
	for _, a := range answers {
		was := decodeJSON[puller.Job](t, a.Job)
		if !was.State.Ended() {
			continue
		}
		t.Run(was.ID, func(t *testing.T) {
			_, body, _ := strings.Cut(get(t, path, "/v1/jobs/"+was.ID), " ")
			if got, want := decodeJSON[any](t, []byte(body)), decodeJSON[any](t, a.Job); !reflect.DeepEqual(got, want) {
				t.Errorf("the job is\n%v\nnot\n%v", got, want)
			}
			_, body, _ = strings.Cut(get(t, path, "/v1/jobs/"+was.ID+"/events?since=0"), " ")
			got, want := numberedLines(t, strings.Split(strings.TrimSpace(body), "\n"), &highest), numberedLines(t, a.Events, &highest)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the events are\n%v\nnot\n%v", got, want)
			}
			if was.Kind == "run" {
				if got, want := get(t, path, "/v1/jobs/"+was.ID+"/logs"), "200 "+a.Logs; strings.ToValidUTF8(got, "\uFFFD") != want {
					t.Errorf("the output is %q, not %q", got, want)
				}
			}
		})
	}
	for _, a := range answers {
		was := decodeJSON[puller.Job](t, a.Job)
		if was.State.Ended() {
			continue
		}
		t.Run(was.ID, func(t *testing.T) {
			var events []puller.Event
			for e, err := range caller.Events(ctx, was.ID) {
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, e)
			}
			last := events[len(events)-1]
			if last.Type != "result" || last.Seq <= highest {
				t.Fatalf("the last event is %+v; the older build gave numbers up to %d", last, highest)
			}
			j := last.Result
			// Their time was up long ago, or credentials were not kept.
			if !j.State.Ended() || j.Kind != was.Kind || j.Image != was.Image || !j.CreatedAt.Equal(was.CreatedAt) || !reflect.DeepEqual(j.Children, was.Children) {
				t.Errorf("it ended as %+v", j)
			}
		})
	}
	again := client.PullRequest{Image: "registry.test/team/app:v1", Policy: puller.PolicyAlways, IdempotencyKey: "ci-1"}
	if j, err := caller.Submit(ctx, again); err != nil || j.State != puller.StateSucceeded || j.CreatedAt.Year() != 2026 {
		t.Errorf("the request with a known key gives %+v, %v", j, err)
	}
	again.Image = "registry.test/team/web:v1"
	if j, err := caller.Submit(ctx, again); puller.KindOf(err) != puller.ErrConflict {
		t.Errorf("another request with a known key gives %+v, %v", j, err)
	}
	if j, err := caller.Pull(ctx, client.PullRequest{Image: again.Image, Policy: puller.PolicyAlways}); err != nil || j.State != puller.StateSucceeded {
		t.Errorf("a new job: %+v, %v", j, err)
	}
}

// numberedLines returns the events that have a number: those that are kept.
func numberedLines(t *testing.T, lines []string, highest *uint64) (numbered []any) {
	t.Helper()
	for _, line := range lines {
		if e := decodeJSON[puller.Event](t, []byte(line)); e.Seq > 0 {
			numbered = append(numbered, decodeJSON[any](t, []byte(line)))
			*highest = max(*highest, e.Seq)
		}
	}
	return numbered
}

func decodeJSON[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return v
}
