package faults_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

func TestRegistryThatIsDownFailsThePull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("down", 1, 1<<20)
	r.registry.Stop()
	r.refused(image.ref, 0, puller.ErrRegistryUnavailable, http.StatusBadGateway, 4)
	// One that wants more tries gets the image when it is back.
	id := r.submit(image.ref, 20).ID
	r.noticed(id, "attempt 1 failed (registry_unavailable")
	if err := r.registry.Restart(); err != nil {
		t.Fatal(err)
	}
	r.succeeds(id, image)
}

func TestRegistryGoesDownDuringAPull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("cut", 2, 4<<20)
	release := r.hold(1 << 20)
	id := r.submit(image.ref, 20).ID
	r.pulling(id)
	r.registry.Stop()
	r.noticed(id, "attempt 1 failed (registry_unavailable")
	release()
	if err := r.registry.Restart(); err != nil {
		t.Fatal(err)
	}
	if job := r.succeeds(id, image); job.Attempt < 2 {
		t.Errorf("attempt %d", job.Attempt)
	}
}

// refusals are those of a registry that refuses, with its words or without.
var refusals = []struct {
	status      int
	code        string
	kind        puller.ErrorKind
	http, exits int
}{
	{401, "UNAUTHORIZED", puller.ErrDenied, 403, 3},
	{403, "DENIED", puller.ErrDenied, 403, 3},
	{404, "MANIFEST_UNKNOWN", puller.ErrNotFound, 404, 3},
	{429, "TOOMANYREQUESTS", puller.ErrRateLimited, 429, 4},
	{500, "UNKNOWN", puller.ErrRegistryUnavailable, 502, 4},
	{503, "UNAVAILABLE", puller.ErrRegistryUnavailable, 502, 4},
}

func TestRegistryThatRefusesFailsThePullWithWhatItSaid(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"manifest", "config", "layer"} {
		for _, silent := range []bool{false, true} {
			for _, a := range refusals {
				name := fmt.Sprintf("%d for the %s", a.status, what)
				if silent {
					name += " without a word"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					r := newRig(t, "")
					image := r.push("refuses", 1, 1<<10)
					part := map[string]string{"manifest": "/manifests/", "config": "/blobs/"}[what]
					if part == "" {
						layers, err := r.registry.Layers(t.Context(), image.ref)
						if err != nil {
							t.Fatal(err)
						}
						part = layers[0]
					}
					r.registry.Intercept(refuse(a.status, a.code, part, silent))
					r.refused(image.ref, 0, a.kind, a.http, a.exits)
				})
			}
		}
	}
}

// refuse answers every request with this part in its path so.
func refuse(status int, code, part string, silent bool) lab.Hook {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, part) {
			return false
		}
		if silent {
			w.WriteHeader(status)
			return true
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"the test refuses"}]}`, code)
		return true
	}
}

func TestRegistryLimitsTheRate(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("limited", 1, 1<<20)
	var told atomic.Bool // Towline has been, how long to wait
	var early atomic.Int32
	r.registry.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if told.Load() || !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Retry-After", "1")
		refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", "/manifests/", false)(w, req)
		early.Add(1)
		if req.UserAgent() == "towline" {
			told.Store(true)
		}
		return true
	})
	id := r.submit(image.ref, 1).ID
	if job := r.succeeds(id, image); job.Attempt != 2 {
		t.Errorf("attempt %d", job.Attempt)
	}
	waits := false
	for _, e := range r.notices(id) {
		waits = waits || e.RetryAfterSeconds > 0 && e.RetryAfterSeconds <= 1
	}
	if !waits {
		t.Errorf("no notice says how long to wait: %+v", r.notices(id))
	}
	if n := early.Load(); n > 3 { // the engine's HEAD and GET, and Towline's HEAD
		t.Errorf("the registry refused %d times", n)
	}
}

func TestRegistryThatIsSlowButMovesIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pull: {stall_timeout: 2s}\n")
	image := r.push("slow", 1, 1<<20)
	r.registry.Throttle(200 << 10) // 5 s
	job := r.succeeds(r.submit(image.ref, 0).ID, image)
	if job.Result.DurationSeconds < 4 {
		t.Errorf("it took only %v s", job.Result.DurationSeconds)
	}
}

func TestRegistryStallsDuringABlob(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	image := r.push("still", 1, 4<<20)
	release := r.hold(1 << 20)
	if status, p := r.wait(image.ref, 0); status != http.StatusGatewayTimeout || p.Kind != puller.ErrStalled {
		t.Errorf("%d %+v", status, p)
	}
	release()
	r.settled()
	if there, _ := r.inspect(image.ref); there != "" {
		t.Error("the engine's pull went on")
	}
}

func TestRegistryThatMovesAgainIsPulledFromAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	image := r.push("again", 1, 4<<20)
	release := r.hold(1 << 20)
	id := r.submit(image.ref, 8).ID
	r.noticed(id, "attempt 1 failed (stalled")
	release()
	if job := r.succeeds(id, image); job.Attempt < 2 {
		t.Errorf("attempt %d", job.Attempt)
	}
}

// A manifest that does not come is the engine's silence, too.
func TestRegistrySaysNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pull: {first_byte_timeout: 2s}\n")
	image := r.push("silent", 1, 1<<10)
	r.registry.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		<-req.Context().Done()
		return true
	})
	if status, p := r.wait(image.ref, 0); status != http.StatusGatewayTimeout || p.Kind != puller.ErrStalled {
		t.Errorf("%d %+v", status, p)
	}
	r.registry.Heal()
	r.succeeds(r.submit(image.ref, 0).ID, image)
}
