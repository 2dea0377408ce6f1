package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller/enginetest"
)

func TestEventsOfOnePullForTwoClients(t *testing.T) {
	d := start(t)
	gate := d.held("alpine")
	a := d.follow("POST", "/v1/pulls", `{"image":"alpine"}`, ndjson)
	first := a.until(downloading)
	b := d.follow("POST", "/v1/pulls", `{"image":"docker.io/library/alpine:latest"}`, sse)
	second := b.until(downloading)
	c := d.follow("GET", "/v1/jobs/"+first[0].Job+"/events", "", sse)
	third := c.until(downloading)
	if first[0].Job == second[0].Job || d.Engine.Counts().Pulls != 1 {
		t.Errorf("jobs %s and %s, %d pulls", first[0].Job, second[0].Job, d.Engine.Counts().Pulls)
	}
	close(gate)
	checkComplete(t, append(first, a.rest()...), first[0].Job)
	checkComplete(t, append(second, b.rest()...), second[0].Job)
	checkComplete(t, append(third, c.rest()...), first[0].Job)
}

func TestEventsOfAnEndedJob(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	id := d.pull("alpine").ID
	d.ended(id)
	for _, media := range []string{ndjson, sse} {
		events := d.follow("GET", "/v1/jobs/"+id+"/events", "", media).rest()
		checkComplete(t, events, id)
		var types []string
		for _, e := range events {
			types = append(types, e.Type)
		}
		slices.Sort(types)
		if want := []string{"layer", "layer", "result", "state"}; !slices.Equal(types, want) {
			t.Errorf("%s: the events are %q, want %q", media, types, want)
		}
	}
}

func TestEventsResume(t *testing.T) {
	d := start(t)
	followed, gate := make(chan struct{}), make(chan struct{})
	image := enginetest.NewImage("alpine", 1)
	d.Engine.Script("alpine", func(p *enginetest.Pull) {
		p.Until(followed) // a snapshot has no notes
		for i := range 5 {
			p.Line(fmt.Sprintf(`{"status":"note %d"}`, i))
		}
		if p.Until(gate) {
			for i := range 5 {
				p.Line(fmt.Sprintf(`{"status":"late note %d"}`, i))
			}
			enginetest.Serve(image)(p)
		}
	})
	// A reader that is cut off in the middle, and comes back with the number
	// of the last event it has seen.
	cut := d.follow("POST", "/v1/pulls", `{"image":"alpine"}`, ndjson)
	close(followed)
	seen := cut.until(func(e told) bool { return e.Message == "note 2" })
	cut.close()
	id, at := seen[0].Job, fmt.Sprint(seen[len(seen)-1].Seq)
	back := d.follow("GET", "/v1/jobs/"+id+"/events?since="+at, "", ndjson)
	again := back.until(func(e told) bool { return e.Message == "note 4" })
	close(gate)
	seen = append(append(seen, again...), back.rest()...)

	path := "/v1/jobs/" + id + "/events"
	record := d.follow("GET", path+"?since=0", "", ndjson).rest()
	all := numbers(record)
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) || len(all) < 14 {
		t.Errorf("the numbers are %d", all)
	}
	// The record begins before the first reader came, whose snapshot was later.
	if from := slices.Index(all, numbers(seen)[0]); from < 0 || !slices.Equal(numbers(seen), all[from:]) {
		t.Errorf("the reader that came back has seen %d, of %d", numbers(seen), all)
	}
	checkComplete(t, seen, id)

	for i, n := range all {
		f := []*feed{
			d.follow("GET", fmt.Sprintf("%s?since=%d", path, n), "", sse),
			d.follow("GET", path, "", ndjson, "Last-Event-ID", fmt.Sprint(n)),
			d.follow("GET", fmt.Sprintf("%s?since=%d", path, n), "", ndjson, "Last-Event-ID", "0"), // the query is the closer word
		}
		if i+1 < len(all) {
			f = append(f, d.follow("GET", path, "", sse, "Last-Event-ID", fmt.Sprint(n)))
		} else if a := d.call("GET", path, "", "Accept", sse, "Last-Event-ID", fmt.Sprint(n)); a.Status != http.StatusNoContent {
			t.Errorf("a browser that has read everything is answered %d, and comes back", a.Status)
		}
		for _, f := range f {
			if got := numbers(f.rest()); !slices.Equal(got, all[i+1:]) {
				t.Errorf("after %d come %d, want %d", n, got, all[i+1:])
			}
		}
	}
}

func TestEventsHeartbeat(t *testing.T) {
	for _, media := range []string{ndjson, sse} {
		t.Run(media, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := startInMemory(t)
				gate := d.held("alpine")
				f := d.follow("POST", "/v1/pulls?every=1m", `{"image":"alpine"}`, media)
				events := f.until(downloading)
				last := events[len(events)-1].at
				for range 3 {
					e, _ := f.next()
					if e.Type != "heartbeat" || e.Seq != 0 || e.id != "" || e.Job != events[0].Job || e.Time.IsZero() {
						t.Errorf("after the silence comes %s", e.raw)
					}
					if silence := e.at.Sub(last); silence != 15*time.Second {
						t.Errorf("a heartbeat after %s", silence)
					}
					last = e.at
				}
				close(gate)
				checkComplete(t, append(events, f.rest()...), events[0].Job)
			})
		})
	}
}

func TestEventsEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		const steps, step = 100, 50 * time.Millisecond
		image := enginetest.NewImage("alpine", 1)
		d.Engine.Script("alpine", func(p *enginetest.Pull) {
			for i := range steps {
				p.Line(fmt.Sprintf(`{"status":"Downloading","progressDetail":{"current":%d,"total":1000},"id":"aaaaaaaaaaaa"}`, i+1))
				if i == steps/2 {
					p.Line(`{"status":"a word in between"}`)
				}
				p.Wait(step)
			}
			p.Tag(image)
		})
		start := time.Now()
		id := d.pull("alpine").ID
		var reading sync.WaitGroup
		for query, want := range map[string]time.Duration{"": 100 * time.Millisecond, "?every=0s": 100 * time.Millisecond, "?every=1s": time.Second} {
			f := d.follow("GET", "/v1/jobs/"+id+"/events"+query, "", ndjson)
			reading.Go(func() {
				var last time.Time
				layers := 0
				for _, e := range f.rest() {
					if e.Type == "notice" && e.at.Sub(start) != steps/2*step {
						t.Errorf("%q: the notice waited, until %s", query, e.at.Sub(start))
					}
					if e.Type != "layer" || e.Layer.Phase.Done() {
						continue
					}
					if gap := e.at.Sub(last); gap < want {
						t.Errorf("%q: layers are told %s apart", query, gap)
					}
					last = e.at
					layers++
				}
				if most := int(steps*step/want) + 1; layers < most-2 || layers > most {
					t.Errorf("%q: %d layer events, want about %d", query, layers, most)
				}
			})
		}
		reading.Wait()
	})
}

func TestEventsStoppedReaderDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		gate := make(chan struct{})
		image := enginetest.NewImage("alpine", 1)
		d.Engine.Script("alpine", func(p *enginetest.Pull) {
			p.Line(`{"status":"a word"}`)
			if !p.Until(gate) {
				return
			}
			for i := range 90 {
				p.Line(fmt.Sprintf(`{"status":"%s %d"}`, strings.Repeat("many words ", 100), i))
			}
			enginetest.Serve(image)(p)
		})
		id := d.pull("alpine").ID
		stuck := d.follow("GET", "/v1/jobs/"+id+"/events", "", ndjson)
		reader := d.follow("GET", "/v1/jobs/"+id+"/events", "", ndjson)
		synctest.Wait()
		start := time.Now()
		close(gate)
		checkComplete(t, reader.rest(), id)
		synctest.Wait()
		if took := time.Since(start); took != 0 || d.Open() != 1 {
			t.Errorf("the other reader's stream took %s, %d handlers run", took, d.Open())
		}
		// It is given up after a while, so that it does not hold a connection
		// for good.
		<-time.After(time.Minute)
		synctest.Wait()
		if d.Open() != 0 {
			t.Error("the reader that never reads still holds its handler")
		}
		stuck.close()
	})
}

func TestEventsAtShutdown(t *testing.T) {
	d := start(t)
	d.held("alpine")
	f := d.follow("POST", "/v1/pulls", `{"image":"alpine"}`, sse)
	f.until(downloading)
	d.ShutDown()
	events := f.rest()
	if f.retry < time.Second || f.retry > 11*time.Second {
		t.Errorf("the reader is to come back after %s", f.retry)
	}
	last := events[len(events)-1]
	if last.Type != "notice" || last.Seq == 0 || !strings.Contains(last.Message, "goes on when it is back") {
		t.Errorf("the last event is %s", last.raw)
	}
}

func TestEventsHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t)
		gate := d.held("alpine")
		defer close(gate)
		id := d.pull("alpine").ID
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp := d.Send(ctx, "HEAD", "/v1/jobs/"+id+"/events", "")
		resp.Body.Close()
		synctest.Wait()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != ndjson || d.Open() != 0 {
			t.Errorf("%s, %s; %d handlers run", resp.Status, resp.Header.Get("Content-Type"), d.Open())
		}
	})
}
