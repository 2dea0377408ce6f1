package faults_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

func TestDaemonThatIsStoppedTellsItsReadersAndAbortsThePull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("sigterm", 1, 32<<20)
	r.registry.Throttle(1 << 20)
	id, one, _ := r.follow(image.ref)
	_, two, _ := r.follow(image.ref)
	r.pulling(id)
	began := time.Now()
	if err := r.towline.Stop(); err != nil {
		t.Errorf("its exit code is not 0: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, last := range []<-chan string{one, two} {
		if e := r.end(last); e.Result != nil {
			r.failed(*e.Result, puller.Overloaded)
		}
	}
	r.sent()
	if there, _ := r.inspect(image.ref); there != "" {
		t.Error("the image is there")
	}
	r.registry.Throttle(0)
	r.start()
	r.succeeds(r.submit(image.ref, 0).ID, image)
}

func TestDaemonThatIsKilledLeavesNoPullAndStartsAgain(t *testing.T) {
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
	r.succeeds(r.submit(image.ref, 0).ID, image)
}
