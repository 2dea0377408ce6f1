package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
)

// of counts events by job and type.
func of(events []told, job, typ string) (n int) {
	for _, e := range events {
		if (job == "" || e.Job == job) && e.Type == typ {
			n++
		}
	}
	return n
}

func resultOf(job string) func(told) bool {
	return func(e told) bool { return e.Type == "result" && e.Job == job }
}

func TestAllEvents(t *testing.T) {
	for _, media := range []string{ndjson, sse} {
		d := start(t)
		gate := d.held("alpine")
		d.good("busybox", 2)
		first := d.pull("alpine")
		running := d.follow("POST", "/v1/pulls", `{"image":"alpine"}`, ndjson)
		running.until(downloading)
		f := d.follow("GET", "/v1/events", "", media)
		seen := f.until(downloading)
		if of(seen, first.ID, "state") != 1 {
			t.Errorf("the present state is not in %d events", len(seen))
		}
		other := d.pull("busybox")
		seen = append(seen, f.until(resultOf(other.ID))...)
		close(gate)
		results := 1
		seen = append(seen, f.until(func(e told) bool {
			if e.Type == "result" {
				results++
			}
			return results == 3
		})...)
		running.rest()
		if all := numbers(seen); !slices.IsSorted(all) {
			t.Errorf("the numbers are %d", all)
		}
		if of(seen, "", "result") != 3 || of(seen, other.ID, "state") < 3 || of(seen, first.ID, "layer") == 0 {
			t.Errorf("something is missing in %d events", len(seen))
		}
		d.ShutDown()
		rest := f.rest()
		if last := rest[len(rest)-1]; last.Type != "notice" || !strings.Contains(last.Message, "shutting down") || last.Seq != 0 {
			t.Errorf("the last event is %s", last.raw)
		}
		if media == sse && f.retry < time.Second {
			t.Errorf("the reader is to come back after %s", f.retry)
		}
	}
}

func TestAllEventsResume(t *testing.T) {
	d := start(t)
	for i := range 3 {
		d.good(fmt.Sprint("image-", i), i+1)
	}
	var all []uint64
	f := d.follow("GET", "/v1/events?since=0", "", ndjson)
	var seen []told
	for i := range 3 {
		seen = append(seen, f.until(resultOf(d.pull(fmt.Sprint("image-", i)).ID))...)
	}
	f.close()
	if all = numbers(seen); len(all) < 12 {
		t.Fatalf("the numbers are %d", all)
	}
	for i, n := range all[:len(all)-1] {
		for _, f := range []*feed{
			d.follow("GET", fmt.Sprint("/v1/events?since=", n), "", ndjson),
			d.follow("GET", "/v1/events", "", sse, "Last-Event-ID", fmt.Sprint(n)),
		} {
			again := f.until(func(e told) bool { return e.Seq == all[len(all)-1] })
			if got := numbers(again); !slices.Equal(got, all[i+1:]) {
				t.Errorf("after %d come %d, want %d", n, got, all[i+1:])
			}
			f.close()
		}
	}
	e, _ := d.follow("GET", "/v1/events?since=99999", "", ndjson).next()
	if e.Type != "notice" || e.Seq != 0 || !strings.Contains(e.Message, "99999") {
		t.Errorf("a place that nobody had begins with %s", e.raw)
	}
}

func TestAllEventsFilter(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	d.good("busybox", 2)
	by := map[string]*feed{}
	for _, query := range []string{"kind=pull", "kind=prewarm", "image=alpine", "kind=pull&image=docker.io/library/busybox:latest", "kind=run"} {
		by[query] = d.follow("GET", "/v1/events?"+query, "", ndjson)
	}
	parent := d.call("POST", "/v1/prewarms", `{"images":["alpine","busybox"]}`).job(t, http.StatusAccepted)
	d.ended(parent.ID)
	d.ShutDown()
	for query, want := range map[string]int{"kind=pull": 2, "kind=prewarm": 1, "image=alpine": 1, "kind=pull&image=docker.io/library/busybox:latest": 1, "kind=run": 0} {
		events := by[query].rest()
		if got := of(events, "", "result"); got != want {
			t.Errorf("%s: %d results, want %d", query, got, want)
		}
		for _, e := range events {
			if e.Result == nil {
				continue
			}
			if query == "kind=prewarm" != (e.Result.Kind == puller.JobPrewarm) || query == "image=alpine" && e.Result.Image != "docker.io/library/alpine:latest" {
				t.Errorf("%s: %s", query, e.raw)
			}
		}
	}
	for query, want := range map[string]string{"kind=push": "kind", "image=a b": "image", "every=1": "every", "since=x": "since", "state=active": "state"} {
		if p := d.call("GET", "/v1/events?"+strings.ReplaceAll(query, " ", "%20"), "").problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); !strings.Contains(p.Detail, want) {
			t.Errorf("%s: %s", query, p.Detail)
		}
	}
}

// What becomes of images is told beside the jobs, in both formats.
func TestAllEventsImages(t *testing.T) {
	for _, media := range []string{ndjson, sse} {
		d := start(t)
		d.good("alpine", 1)
		all, images := d.follow("GET", "/v1/events", "", media), d.follow("GET", "/v1/events?kind=image", "", media)
		freed := int64(7)
		change := puller.ImageChange{Action: puller.ImageRemoved, ID: "sha256:1", Names: []string{"docker.io/library/redis:7"}, Digest: "sha256:2", Size: 9, Freed: &freed, Why: "high"}
		d.History.Add(change)
		job := d.pull("alpine")
		d.ended(job.ID)
		d.History.Add(puller.ImageChange{Action: puller.ImageRestored, Names: []string{"docker.io/library/redis:7"}, Set: "web", Job: job.ID})
		d.ShutDown()
		for name, c := range map[string]struct {
			feed            *feed
			images, results int
		}{"all": {all, 2, 1}, "images": {images, 2, 0}} {
			events := c.feed.rest()
			if of(events, "", "image") != c.images || of(events, "", "result") != c.results {
				t.Errorf("%s, %s: the events are %v", media, name, events)
			}
			if nums := numbers(events); !slices.IsSorted(nums) || len(nums) < 2 {
				t.Errorf("%s, %s: the numbers are %d", media, name, nums)
			}
			for _, e := range events {
				if e.Type == "image" && e.Job != "" || e.Type == "image" && media == sse && (e.name != "image" || e.id == "") {
					t.Errorf("%s: %+v", media, e)
				}
				if e.Image != nil && e.Image.Action == puller.ImageRemoved {
					if diff := cmp.Diff(&change, e.Image); diff != "" {
						t.Error(diff)
					}
				}
			}
		}
		var page struct {
			Events []puller.Event
			Next   string
		}
		answer := d.call("GET", "/v1/images/history?limit=1&image=redis:7", "")
		if err := json.Unmarshal([]byte(answer.Body), &page); err != nil || len(page.Events) != 1 || page.Events[0].Image.Job != job.ID || page.Next == "" {
			t.Errorf("the history is %s: %v", answer.Body, err)
		}
		for query, field := range map[string]string{"limit=0": "limit", "limit=1001": "limit", "image=A%20B": "image", "cursor=x": "cursor", "nope=1": "nope"} {
			if p := d.call("GET", "/v1/images/history?"+query, "").problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); !strings.Contains(p.Detail, field) {
				t.Errorf("%s: %s", query, p.Detail)
			}
		}
	}
}

func TestAllEventsHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		began := time.Now()
		f := d.follow("GET", "/v1/events", "", ndjson)
		for range 3 {
			e, _ := f.next()
			if e.Type != "heartbeat" || e.Seq != 0 || e.Job != "" {
				t.Errorf("after the silence comes %s", e.raw)
			}
		}
		if silence := time.Since(began); silence != 45*time.Second {
			t.Errorf("three heartbeats in %s", silence)
		}
	})
}
