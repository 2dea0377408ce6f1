package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

func TestLayerCorrupt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("corrupt", 1, 1<<20)
	layers, err := r.registry.Layers(t.Context(), image.ref)
	if err != nil {
		t.Fatal(err)
	}
	r.registry.CorruptBlob(layers[0])
	r.registry.ResetCounts()
	job := r.fails(r.submit(image.ref, 5).ID, puller.ErrCorrupt, image)
	path := "GET /v2/corrupt/blobs/" + layers[0]
	if n := r.registry.Counts().ByPath[path]; n != 2 || job.Attempt != 2 {
		t.Errorf("%d downloads in %d attempts", n, job.Attempt)
	}
	// Had it been the way, the second download would have been good.
	r.registry.ResetCounts()
	id := r.submit(image.ref, 5).ID
	r.noticed(id, "attempt 1 failed (corrupt")
	r.registry.Heal()
	r.succeeds(id, image)
	r.registry.CorruptBlob(layers[0])
	r.remove(image.ref)
	r.refused(image.ref, 1, puller.ErrCorrupt, http.StatusBadGateway, 4)
}

func (r *rig) remove(ref string) {
	r.Helper()
	if err := r.engine.RemoveImage(context.Background(), ref); err != nil {
		r.Error(err)
	}
}

func TestEngineWithoutSpace(t *testing.T) {
	t.Parallel()
	lab.Need(t, site.err)
	dir, err := os.MkdirTemp(site.dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := lab.Private(t.Context(), dir, lab.PrivateOptions{TmpfsMiB: 40, Flags: []string{"--max-download-attempts=1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	r := newRigOn(t, engine, lab.TowlineOptions{})
	big, small := r.push("big", 1, 64<<20), r.push("small", 1, 1<<20)
	job := r.fails(r.submit(big.ref, 5).ID, puller.ErrNoSpace, big)
	if job.Attempt != 1 {
		t.Errorf("%d attempts", job.Attempt)
	}
	r.refused(big.ref, 5, puller.ErrNoSpace, http.StatusInsufficientStorage, 1)
	r.succeeds(r.submit(small.ref, 0).ID, small)
}

func TestImageOfAnotherPlatformIsNoSuccess(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("amd64", 1, 1<<20)
	for range 2 { // the second time, the wrong image is there
		five := 5
		job, err := r.client.Submit(t.Context(), client.PullRequest{Image: image.ref, Platform: "linux/arm64", Retries: &five})
		if err != nil {
			t.Fatal(err)
		}
		job = r.ended(job.ID)
		r.failed(job, puller.ErrPlatformMismatch)
		if job.Attempt != 1 {
			t.Errorf("%d attempts", job.Attempt)
		}
	}
	if code, said := r.run("pull", "--platform", "linux/arm64", image.ref); code != 3 {
		t.Errorf("exit code %d: %s", code, said)
	}
	r.succeeds(r.submit(image.ref, 0).ID, image)
}

func TestTagDeletedDuringAPull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("deleted", 2, 4<<20)
	release := r.hold(1 << 20)
	id := r.submit(image.ref, 0).ID
	r.pulling(id)
	if err := r.registry.Untag(t.Context(), "deleted", "v1"); err != nil {
		t.Fatal(err)
	}
	release()
	// The manifest has been read, and all that it names is still there.
	r.succeeds(id, image)
	r.remove(image.ref)
	r.refused(image.ref, 0, puller.ErrNotFound, http.StatusNotFound, 3)
}

func TestTagMovedDuringAPull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	old := r.push("moved", 2, 4<<20)
	release := r.hold(1 << 20)
	id := r.submit(old.ref, 0).ID
	r.pulling(id)
	moved := r.push("moved", 2, 4<<20)
	release()
	r.succeeds(id, old)
	// Who asks the registry now gets the new one.
	job, err := r.client.Pull(t.Context(), client.PullRequest{Image: old.ref, Policy: puller.PolicyNewer})
	if err != nil {
		t.Fatal(err)
	}
	r.holds(job, moved)
}

func TestImageThatIsRemovedAllTheTimeIsNoFalseSuccess(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("removed", 2, 256<<10)
	whole := r.succeeds(r.submit(image.ref, 0).ID, image).Result
	r.remove(image.ref)
	outcomes := map[string]int{}
	for range 12 {
		var last time.Time // the image was removed
		var work sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		work.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				resp, err := r.engine.Do(context.Background(), http.MethodDelete, "/images/"+(&url.URL{Path: image.ref}).EscapedPath()+"?force=1", nil, nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					last = time.Now()
				}
				<-tick.C
			}
		})
		id := r.submit(image.ref, 0).ID
		job := r.ended(id)
		cancel()
		work.Wait()
		there, _ := r.inspect(image.ref)
		switch {
		case job.State == puller.StateSucceeded:
			outcomes["succeeded"]++
			// What the proof saw can have been removed only after its begin.
			proof := r.verifying(id)
			if job.Result.Digest != image.digest || job.Result.ImageID != whole.ImageID || there == "" && last.Before(proof) {
				t.Errorf("a false success: %+v; the proof began at %s, the image went at %s", job.Result, proof, last)
			}
		case job.Error.Kind == puller.ErrTruncated:
			outcomes["truncated"]++
		default:
			t.Errorf("%+v", job.Error)
		}
		r.remove(image.ref)
	}
	t.Log(fmt.Sprint(outcomes))
}

// verifying is when a job that has ended began its proof.
func (r *rig) verifying(id string) (at time.Time) {
	r.Helper()
	w := r.watch(id)
	<-w.done
	for _, e := range w.told() {
		if e.Phase == puller.PhaseVerifying {
			at = e.Time
		}
	}
	return at
}
