package faults_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// impatient are limits that a pull which stands still meets soon.
const impatient = "pull: {first_byte_timeout: 20s, stall_timeout: 6s}\n"

func TestEngineThatDiesInTheMiddleOfAPullIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*lab.Engine) error{"killed": (*lab.Engine).Kill, "stopped": (*lab.Engine).Stop} {
		t.Run(name, func(t *testing.T) {
			r := newFragileRig(t, lab.TowlineOptions{}, nil)
			image := r.push("dies", 2, 4<<20)
			release := r.hold(1 << 20)
			id := r.submit(image.ref, 5).ID
			r.pulling(id)
			if err := down(r.engine); err != nil {
				t.Fatal(err)
			}
			r.noticed(id, "the engine does not answer")
			if status := r.ready(); status != http.StatusServiceUnavailable {
				t.Errorf("/readyz is %d without an engine", status)
			}
			r.sent()
			release()
			if err := r.engine.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if job := r.succeeds(id, image); job.Attempt < 2 {
				t.Errorf("attempt %d", job.Attempt)
			}
			r.noticed(id, "attempt 1 failed")
			r.noticed(id, "answers again")
			if status := r.ready(); status != http.StatusOK {
				t.Errorf("/readyz is %d with an engine", status)
			}
		})
	}
}

func TestEngineFreezesDuringAPull(t *testing.T) {
	t.Parallel()
	r := newFragileRig(t, lab.TowlineOptions{Config: impatient}, nil)
	image := r.push("freezes", 1, 4<<20)
	release := r.hold(1 << 20)
	id := r.submit(image.ref, 0).ID
	r.pulling(id)
	if err := r.engine.Pause(); err != nil {
		t.Fatal(err)
	}
	r.failed(r.ended(id), puller.ErrStalled)
	if status := r.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d with a frozen engine", status)
	}
	if err := r.engine.Resume(); err != nil {
		t.Fatal(err)
	}
	release()
	r.settled()
	r.fails(id, puller.ErrStalled, image) // the image has not come behind the job's back
	r.succeeds(r.submit(image.ref, 0).ID, image)
}

func TestEngineThatThawsIsAskedAgain(t *testing.T) {
	t.Parallel()
	r := newFragileRig(t, lab.TowlineOptions{Config: impatient}, nil)
	image := r.push("thaws", 1, 4<<20)
	release := r.hold(1 << 20)
	id := r.submit(image.ref, 8).ID
	r.pulling(id)
	if err := r.engine.Pause(); err != nil {
		t.Fatal(err)
	}
	r.noticed(id, "attempt 1 failed (stalled")
	release()
	if err := r.engine.Resume(); err != nil {
		t.Fatal(err)
	}
	r.succeeds(id, image)
}

func TestEngineThatIsFrozenBeforeThePullIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newFragileRig(t, lab.TowlineOptions{}, nil)
	image := r.push("frozen", 1, 1<<20)
	if err := r.engine.Pause(); err != nil {
		t.Fatal(err)
	}
	id := r.submit(image.ref, 1).ID
	if status := r.ready(); status != http.StatusServiceUnavailable { // it takes its time
		t.Errorf("/readyz is %d with a frozen engine", status)
	}
	if job := r.job(id); job.State.Ended() {
		t.Fatalf("the job did not wait: %+v", job.Error)
	}
	if err := r.engine.Resume(); err != nil {
		t.Fatal(err)
	}
	r.succeeds(id, image)
}

// That takes the half minute which the daemon gives an engine for an answer.
func TestEngineStaysFrozen(t *testing.T) {
	t.Parallel()
	r := newFragileRig(t, lab.TowlineOptions{}, nil)
	image := r.push("stays", 1, 1<<20)
	if err := r.engine.Pause(); err != nil {
		t.Fatal(err)
	}
	waits := r.submit(image.ref, 1).ID
	if status, p := r.wait(image.ref, 0); status != http.StatusServiceUnavailable || p.Kind != puller.ErrEngineUnavailable {
		t.Errorf("%d %+v", status, p)
	}
	if job := r.job(waits); job.State.Ended() {
		t.Errorf("the other job ended with it: %+v", job.Error)
	}
	if err := r.engine.Resume(); err != nil {
		t.Fatal(err)
	}
	r.succeeds(waits, image)
}

func TestEngineComesAfterTheDaemon(t *testing.T) {
	t.Parallel()
	r := newFragileRig(t, lab.TowlineOptions{EngineDown: true}, (*lab.Engine).Stop)
	image := r.push("later", 1, 1<<20)
	if status := r.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d without an engine", status)
	}
	id := r.submit(image.ref, 1).ID
	r.noticed(id, "the engine does not answer")
	if err := r.engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.succeeds(id, image)
	r.noticed(id, "answers again")
}

func TestEngineAwayWithoutRetries(t *testing.T) {
	t.Parallel()
	r := newFragileRig(t, lab.TowlineOptions{EngineDown: true}, (*lab.Engine).Stop)
	image := r.push("never", 1, 1<<10)
	if status, p := r.wait(image.ref, 0); status != http.StatusServiceUnavailable || p.Kind != puller.ErrEngineUnavailable {
		t.Errorf("%d %+v", status, p)
	}
	if code, said := r.run("pull", "--retries", "0", image.ref); code != 4 {
		t.Errorf("exit code %d: %s", code, said)
	}
	if n := r.registry.Counts(); n.ManifestGets+n.ManifestHeads+n.BlobGets > 0 {
		t.Errorf("the registry was asked %+v", n)
	}
}
