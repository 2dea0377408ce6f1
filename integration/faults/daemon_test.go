package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

func TestDaemonStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("sigterm", 1, 32<<20)
	r.registry.Throttle(1 << 20)
	id, one, _ := r.follow(image.ref)
	other, two, _ := r.follow(image.ref)
	waited := make(chan problem, 1)
	go func() {
		_, p := r.wait(image.ref, 0)
		waited <- p
	}()
	r.until("three jobs are active", func(ctx context.Context) error {
		jobs, _, err := r.client.Jobs(ctx, puller.Filter{State: puller.StateActive})
		if err == nil && len(jobs) < 3 {
			err = fmt.Errorf("%d jobs are", len(jobs))
		}
		return err
	})
	r.pulling(id)
	began := time.Now()
	if err := r.towline.Stop(); err != nil {
		t.Errorf("its exit code is not 0: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	var last puller.Event
	for _, ended := range []<-chan string{one, two} {
		text := <-ended
		if json.Unmarshal([]byte(text), &last) != nil || last.Type != "notice" || !strings.Contains(last.Message, "goes on when it is back") {
			t.Errorf("the last event is %s", text)
		}
	}
	if p := <-waited; p.Kind != puller.ErrOverloaded || p.Status != http.StatusServiceUnavailable || !strings.Contains(p.Detail, "goes on when it is back") {
		t.Errorf("who waited is told %+v", p)
	}
	r.sent()
	if there, _ := r.inspect(image.ref); there != "" {
		t.Error("the image is there")
	}
	r.registry.Throttle(0)
	r.start()
	r.succeeds(id, image)
	r.succeeds(other, image)
	// Its reader goes on where it was.
	later := r.resumed(other, last.Seq)
	if first, end := later[0], later[len(later)-1]; first.Seq <= last.Seq || !strings.Contains(first.Message+later[1].Message, "started again") ||
		end.Type != "result" || end.Result.State != puller.StateSucceeded {
		t.Errorf("after %d come %+v", last.Seq, later)
	}
	r.idles(t.Context())
}

// resumed are the numbered events of a job that has ended, after one.
func (r *rig) resumed(id string, after uint64) (all []puller.Event) {
	r.Helper()
	resp, err := r.towline.Do(r.Context(), http.MethodGet, fmt.Sprintf("/v1/jobs/%s/events?since=%d", id, after), nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); d.More(); {
		var e puller.Event
		if err := d.Decode(&e); err != nil {
			r.Fatal(err)
		}
		if e.Seq > 0 {
			all = append(all, e)
		}
	}
	if len(all) < 2 {
		r.Fatalf("%s has, after %d, only %+v", id, after, all)
	}
	return all
}

func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("sigkill", 1, 32<<20)
	r.registry.Throttle(1 << 20)
	id, last, _ := r.follow(image.ref)
	r.pulling(id)
	r.towline.Kill()
	<-last // the reader is cut off, and knows
	r.sent()
	if there, _ := r.inspect(image.ref); there != "" {
		t.Error("the image is there")
	}
	r.registry.Throttle(0)
	r.start() // on the same socket
	r.succeeds(id, image)
	r.noticed(id, "started again")
	r.succeeds(r.submit(image.ref, 0).ID, image)
}

// Credentials are not kept, so a job that came with some can't go on.
func TestDaemonStoppedDuringAPrivatePull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("private", 1, 8<<20)
	r.registry.Throttle(1 << 20)
	private := func(key string) puller.Job {
		header := http.Header{"Content-Type": {"application/json"}, "X-Registry-Auth": {auth}, "Idempotency-Key": {key}}
		resp, err := r.towline.Do(t.Context(), http.MethodPost, "/v1/pulls", header, strings.NewReader(fmt.Sprintf(`{"image":%q}`, image.ref)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var job puller.Job
		if err := json.NewDecoder(resp.Body).Decode(&job); err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %v", resp.Status, err)
		}
		return job
	}
	id := private("one").ID
	r.pulling(id)
	if err := r.towline.Stop(); err != nil {
		t.Error(err)
	}
	r.start()
	if again := private("one").ID; again != id {
		t.Errorf("asked again, it is %s instead of %s", again, id)
	}
	r.fails(id, puller.ErrDenied, image)
	r.registry.Throttle(0)
	r.succeeds(private("two").ID, image)
	if again := private("one"); again.ID != id || again.State != puller.StateFailed {
		t.Errorf("asked again, it is %+v instead of %s", again, id)
	}
}

func TestDaemonStoppedDuringAPrewarm(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	small, large, larger := r.push("small", 1, 64<<10), r.push("large", 1, 8<<20), r.push("larger", 2, 8<<20)
	release := r.hold(1 << 20)
	header := http.Header{"Content-Type": {"application/json"}}
	body := fmt.Sprintf(`{"images":[%q,%q,%q]}`, large.ref, small.ref, larger.ref)
	resp, err := r.towline.Do(t.Context(), http.MethodPost, "/v1/prewarms", header, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var prewarm puller.Job
	if err := json.NewDecoder(resp.Body).Decode(&prewarm); err != nil || len(prewarm.Children) != 3 {
		t.Fatalf("%s: %+v %v", resp.Status, prewarm, err)
	}
	before, _ := json.Marshal(r.succeeds(prewarm.Children[1], small))
	r.pulling(prewarm.Children[0])
	r.pulling(prewarm.Children[2])
	if err := r.towline.Stop(); err != nil {
		t.Error(err)
	}
	release()
	r.start()
	job := r.ended(prewarm.ID)
	if job.State != puller.StateSucceeded || len(job.Images) != 3 || fmt.Sprint(job.Children) != fmt.Sprint(prewarm.Children) {
		t.Errorf("it is %s: %+v %+v", job.State, job.Error, job.Images)
	}
	r.succeeds(prewarm.Children[0], large)
	r.succeeds(prewarm.Children[2], larger)
	if after, _ := json.Marshal(r.job(prewarm.Children[1])); string(after) != string(before) {
		t.Errorf("what had ended is not as it was\n%s\n%s", before, after)
	}
}
