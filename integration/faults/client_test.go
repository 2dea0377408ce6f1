package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

// follow posts a pull and reads its events as they come. The channel gets the
// last line when the stream has ended; leave hangs up.
func (r *rig) follow(ref string) (id string, last <-chan string, leave func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.Cleanup(cancel)
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-ndjson"}}
	resp, err := r.towline.Do(ctx, http.MethodPost, "/v1/pulls", header, strings.NewReader(fmt.Sprintf(`{"image":%q,"retries":0}`, ref)))
	if err != nil {
		r.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var first puller.Event
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &first) != nil {
		r.Fatalf("%s: %s %v", resp.Status, lines.Text(), lines.Err())
	}
	ended := make(chan string, 1)
	go func() {
		defer resp.Body.Close()
		text := ""
		for lines.Scan() {
			text = lines.Text()
		}
		ended <- text
	}()
	return first.Job, ended, cancel
}

// end reads the last event of a stream.
func (r *rig) end(last <-chan string) (e puller.Event) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	select {
	case text := <-last:
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Type != "result" || e.Result == nil {
			r.Errorf("the last event is %s: %v", text, err)
		}
	case <-ctx.Done():
		r.Fatal("the stream does not end")
	}
	return e
}

func TestClientThatGoesAwayTakesNothingFromAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("gone", 1, 4<<20)
	release := r.hold(1 << 20)
	first, _, leave := r.follow(image.ref)
	second, last, _ := r.follow(image.ref)
	r.pulling(first)
	r.pulling(second)
	leave()
	release()
	if e := r.end(last); e.Result != nil && e.Result.State != puller.StateSucceeded {
		t.Errorf("%+v", e.Result)
	}
	r.succeeds(second, image)
	r.succeeds(first, image) // an accepted job is not its caller's connection
}

func TestJobThatNobodyWatchesAnyMoreGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("nobody", 1, 4<<20)
	r.registry.ResetCounts()
	release := r.hold(1 << 20)
	id, last, leave := r.follow(image.ref)
	r.pulling(id)
	leave()
	<-last // hung up
	r.until("the daemon has noticed", func(ctx context.Context) error {
		// Only the transfer's own and its idle connections are left.
		now, err := r.load(ctx)
		if err == nil && now.fds > r.before.fds+r.idle {
			err = fmt.Errorf("%+v", now)
		}
		return err
	})
	release()
	r.succeeds(id, image)
	if n := r.registry.Counts(); n.BlobGets != 2 {
		t.Errorf("the registry was asked %+v", n)
	}
}

func (r *rig) cancel(id string) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	if job, err := r.client.Cancel(ctx, id); err != nil || job.State != puller.StateCanceled {
		r.Errorf("canceled, the job is %s: %v", job.State, err)
	}
}

// Towline hangs up; dockerd 20.10 waits for the manifest all the same, but does
// nothing more with it.
func TestCancelDuringTheManifest(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("resolving", 1, 1<<10)
	var asking atomic.Int32
	answer := make(chan struct{})
	r.registry.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false // dockerd gives its first contact up by itself
		}
		asking.Add(1)
		defer asking.Add(-1)
		select {
		case <-answer:
		case <-req.Context().Done():
		}
		return false
	})
	one, two := r.submit(image.ref, 3).ID, r.submit(image.ref, 3).ID
	r.until("the engine asks", func(context.Context) error {
		if job := r.job(two); asking.Load() == 0 || job.Phase != puller.PhaseResolving {
			return fmt.Errorf("%s %s", job.State, job.Phase)
		}
		return nil
	})
	r.cancel(one)
	if job := r.job(two); job.State != puller.StateActive {
		t.Errorf("it is %s after another one's cancel", job.State)
	}
	r.cancel(two)
	r.settled() // before the manifest comes
	close(answer)
	r.until("the manifest has come", func(context.Context) error {
		if n := asking.Load(); n > 0 {
			return fmt.Errorf("%d requests wait", n)
		}
		return nil
	})
	r.settled()
	if there, _ := r.inspect(image.ref); there != "" {
		t.Error("the image is there")
	}
}

func TestCancelDuringALayer(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("pulling", 1, 32<<20)
	r.registry.Throttle(1 << 20) // half a minute, had it gone on
	one, two := r.submit(image.ref, 3).ID, r.submit(image.ref, 3).ID
	r.pulling(two)
	r.cancel(one)
	if job := r.job(two); job.State != puller.StateActive || r.registry.Blobs() == 0 {
		t.Errorf("it is %s after another one's cancel", job.State)
	}
	r.cancel(two)
	r.sent()
	if there, _ := r.inspect(image.ref); there != "" {
		t.Error("the image is there")
	}
}

func TestCancelOfAJobInTheQueueLeavesItsImageAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pull: {concurrency: 1}\n")
	first, second := r.push("first", 1, 32<<20), r.push("second", 1, 1<<10)
	r.registry.Throttle(1 << 20)
	one := r.submit(first.ref, 0).ID
	r.pulling(one)
	two := r.submit(second.ref, 0).ID
	if job := r.job(two); job.State != puller.StateQueued {
		t.Errorf("it is %s", job.State)
	}
	r.cancel(two)
	r.cancel(one)
	r.sent()
	for path := range r.registry.Counts().ByPath {
		if strings.Contains(path, "/second/") {
			t.Errorf("the registry was asked: %s", path)
		}
	}
	r.registry.Throttle(0)
	r.succeeds(r.submit(second.ref, 0).ID, second) // the slot is free
}

func TestThousandJobsForOneImageAreOneTransfer(t *testing.T) {
	t.Parallel()
	const jobs, connections = 1000, 16
	r := newRig(t, "")
	r.idle = 16 // so many jobs ask the engine at a time
	image := r.push("thousand", 3, 1<<20)
	r.registry.ResetCounts()
	release := r.hold(1 << 19)
	tickets := make(chan struct{}, jobs)
	for range jobs {
		tickets <- struct{}{}
	}
	close(tickets)
	var work sync.WaitGroup
	for range connections {
		work.Go(func() {
			for range tickets {
				if _, err := r.client.Submit(context.Background(), client.PullRequest{Image: image.ref}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	// A list of all is costly, so it is asked for when no job is left behind.
	list := func(state puller.State) []puller.Job {
		all, _, err := r.client.Jobs(t.Context(), puller.Filter{State: state, Limit: jobs})
		if err != nil || len(all) != jobs {
			t.Fatalf("%d jobs are %s, %v", len(all), state, err)
		}
		return all
	}
	none := func(state puller.State) func(context.Context) error {
		return func(ctx context.Context) error {
			left, _, err := r.client.Jobs(ctx, puller.Filter{State: state, Limit: 1})
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%s is", left[0].ID)
			}
			return err
		}
	}
	r.until("none is queued", none(puller.StateQueued))
	list(puller.StateActive)
	release()
	r.until("none is active", none(puller.StateActive))
	all := list(puller.StateSucceeded)
	for _, job := range all {
		r.holds(job, image)
	}
	for path, n := range r.registry.Counts().ByPath {
		if strings.Contains(path, "/blobs/") && n != 1 {
			t.Errorf("%s: %d times", path, n)
		}
	}
	if n := r.registry.Counts().BlobGets; n != 4 {
		t.Errorf("%d blobs were asked for", n)
	}
}
