package lease_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
)

// leaseOf returns the lease of a job.
func (h *host) leaseOf(job string) keep.Lease {
	h.Helper()
	page, _, err := h.Leases.Leases(keep.LeaseFilter{Job: job})
	if err != nil || len(page) != 1 {
		h.Fatalf("job %s has %d leases, %v", job, len(page), err)
	}
	return page[0]
}

// hold makes pulls of an image wait until the function it returns is called.
func (h *host) hold(image string, then func(*enginetest.Pull)) (release func()) {
	gate := make(chan struct{})
	h.engine.Script(image, func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		if p.Until(gate) {
			then(p)
		}
	})
	return func() { close(gate) }
}

func (h *host) end(id string) puller.Job {
	h.Helper()
	j, err := h.jobs.Wait(h.Context(), id)
	if err != nil {
		h.Fatal(err)
	}
	return j
}

func TestJob(t *testing.T) {
	for name, restart := range map[string]func(*host){"stays": func(*host) {}, "restarts": (*host).restart, "crashes": (*host).crash} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(h *host) {
				image := enginetest.NewImage(good, 1)
				release := h.hold(good, enginetest.Serve(image))
				job, err := h.jobs.Pull(puller.PullRequest{Image: good, Lease: "1h", Policy: puller.PolicyAlways})
				if err != nil {
					h.Fatal(err)
				}
				l := h.leaseOf(job.ID)
				h.protects("", []string{good}, l.ID)
				restart(h)
				for range 6 { // longer than the lease
					<-time.After(20*time.Minute + time.Second)
					h.protects("", []string{good}, l.ID)
					h.expires(l.ID, time.Now().Add(time.Hour))
					h.engine.Script(good, enginetest.Serve(image)) // of a second try
				}
				release()
				job = h.end(job.ID)
				if job.State != puller.StateSucceeded {
					h.Fatalf("the job is %s: %+v", job.State, job.Error)
				}
				<-time.After(10 * time.Second)
				h.expires(l.ID, job.FinishedAt.Add(time.Hour))
				restart(h)
				h.expires(l.ID, job.FinishedAt.Add(time.Hour))
				h.protects(image.ID, nil, l.ID)
				<-time.After(time.Until(job.FinishedAt.Add(time.Hour - time.Second)))
				h.protects("", []string{good}, l.ID)
				<-time.After(time.Minute + 2*time.Second)
				h.gone(l.ID)
			})
		})
	}
}

func TestFailedJob(t *testing.T) {
	withHost(t, func(h *host) {
		release := h.hold(good, func(p *enginetest.Pull) {
			p.Fail("manifest for registry.test/good:v1 not found: manifest unknown")
		})
		begin := time.Now()
		job, err := h.jobs.Pull(puller.PullRequest{Image: good, Lease: "1h"})
		if err != nil {
			h.Fatal(err)
		}
		l := h.leaseOf(job.ID)
		<-time.After(10 * time.Minute)
		release()
		if job = h.end(job.ID); job.State != puller.StateFailed {
			h.Fatalf("the job is %s", job.State)
		}
		<-time.After(10 * time.Second)
		h.expires(l.ID, begin.Add(time.Hour))
	})
}

func TestRefusedJob(t *testing.T) {
	withHost(t, func(h *host) {
		for field, r := range map[string]puller.PullRequest{
			"lease: \"soon\"": {Image: good, Lease: "soon"},
			"image: ":         {Image: "No", Lease: "1h"},
			"priority: ":      {Image: good, Lease: "1h", Priority: "urgent"},
			"lease: 1s":       {Image: good, Lease: "1s"},
		} {
			if _, err := h.jobs.Pull(r); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), field) {
				h.Errorf("%s: %v", field, err)
			}
		}
		if _, err := h.jobs.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other, Lease: "1h"}}}); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "images[1]: lease: ") {
			h.Errorf("a lease of one image gives %v", err)
		}
		if _, err := h.jobs.Plan(h.Context(), puller.PrewarmRequest{Images: puller.Images{{Image: good}}, Lease: "x"}); puller.KindOf(err) != puller.ErrInvalidRequest {
			h.Errorf("a plan with a wrong lease gives %v", err)
		}
		if page, _, err := h.Leases.Leases(keep.LeaseFilter{}); err != nil || len(page) > 0 {
			h.Errorf("%d leases are there, %v", len(page), err)
		}
		h.store.Fail(errors.New("the disk is broken"))
		if _, err := h.jobs.Pull(puller.PullRequest{Image: good, Lease: "1h"}); err == nil {
			h.Error("a job is accepted though its lease can't be kept")
		}
		h.store.Fail(nil)
	})
}

func TestJobTwice(t *testing.T) {
	withHost(t, func(h *host) {
		h.engine.Script(good, enginetest.Serve(enginetest.NewImage(good, 1)))
		r := with(puller.PullRequest{Image: good, Lease: "1h", IdempotencyKey: "key"}, func(r *puller.PullRequest) { r.Caller = "ci" })
		first, err := h.jobs.Pull(r)
		if err != nil {
			h.Fatal(err)
		}
		second, err := h.jobs.Pull(r)
		if err != nil || second.ID != first.ID {
			h.Fatalf("it is %s, and was %s: %v", second.ID, first.ID, err)
		}
		h.leaseOf(first.ID)
		if page, _, err := h.Leases.Leases(keep.LeaseFilter{}); err != nil || len(page) != 1 {
			h.Errorf("%d leases are there, %v", len(page), err)
		}
		r.Lease = "2h"
		if _, err := h.jobs.Pull(r); puller.KindOf(err) != puller.ErrConflict {
			h.Errorf("another lease with the same key gives %v", err)
		}
	})
}

func TestKinds(t *testing.T) {
	withHost(t, func(h *host) {
		image, second := enginetest.NewImage(good, 1), enginetest.NewImage(other, 2)
		h.engine.Script(good, enginetest.Serve(image))
		h.engine.Script(other, enginetest.Serve(second))
		prewarm, err := h.jobs.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}, Lease: "1h"})
		if err != nil {
			h.Fatal(err)
		}
		h.end(prewarm.ID)
		run, err := h.jobs.Run(puller.RunRequest{Image: good, Lease: "2h"})
		if err != nil {
			h.Fatal(err)
		}
		h.end(run.ID)
		<-time.After(10 * time.Second)
		synctest.Wait()
		first, last := h.leaseOf(prewarm.ID), h.leaseOf(run.ID)
		h.protects(image.ID, nil, first.ID, last.ID)
		h.protects(second.ID, nil, first.ID)
		plain, err := h.jobs.Pull(puller.PullRequest{Image: good})
		if err != nil {
			h.Fatal(err)
		}
		if page, _, err := h.Leases.Leases(keep.LeaseFilter{Job: plain.ID}); err != nil || len(page) > 0 {
			h.Errorf("a pull without a lease has %d", len(page))
		}
	})
}
