package collect_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/keep/keeper"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/sets"
)

// keeper has sets and leases protect images.
func (h *host) keeper() keeper.Keeper {
	h.Helper()
	leases, err := lease.Open(lease.Options{Service: h.service, Claims: &h.claims, Records: h.records, Log: h.logged})
	if err != nil {
		h.Fatal(err)
	}
	warm, err := sets.Open(sets.Options{Service: h.service, Claims: &h.claims, Engine: h.adapter, Records: h.records, Log: h.logged})
	if err != nil {
		h.Fatal(err)
	}
	k := keeper.New(warm, leases)
	h.protector = k
	ctx, cancel := context.WithCancel(h.Context())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	h.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return k
}

// needs are the ways to come to need an image. Each returns when it has been granted.
var needs = map[string]func(h *host, k keeper.Keeper, image string) error{
	"lease": func(h *host, k keeper.Keeper, image string) error {
		l, err := k.AddLease(h.Context(), keep.LeaseRequest{Images: []string{image}, TTL: "1h"})
		if here := h.scripted.Has(image); err == nil && here != (len(l.ImageIDs) > 0) {
			h.Errorf("the image is here: %t, and the lease has %q", here, l.ImageIDs)
		}
		return err
	},
	"job": func(h *host, k keeper.Keeper, image string) error {
		return h.ended(k.Jobs().Pull(puller.PullRequest{Image: image}))
	},
	"job with a lease": func(h *host, k keeper.Keeper, image string) error {
		return h.ended(k.Jobs().Pull(puller.PullRequest{Image: image, Lease: "1h"}))
	},
	"run": func(h *host, k keeper.Keeper, image string) error {
		return h.ended(k.Jobs().Run(puller.RunRequest{Image: image, Cmd: []string{"true"}}))
	},
	"prewarm": func(h *host, k keeper.Keeper, image string) error {
		return h.ended(k.Jobs().Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: image}}}))
	},
	"set": func(h *host, k keeper.Keeper, image string) error {
		s, err := k.PutSet("app", keep.SetRequest{Images: puller.Images{{Image: image}}})
		if err != nil {
			return err
		}
		return h.ended(h.service.Job(s.Job))
	},
	"set of a fleet": func(h *host, k keeper.Keeper, image string) error {
		if err := k.PutOfFleet("fleet.app", keep.SetRequest{Images: puller.Images{{Image: image}}}, nil); err != nil {
			return err
		}
		s, err := k.Set("fleet.app")
		if err != nil {
			return err
		}
		return h.ended(h.service.Job(s.Job))
	},
}

// ended waits for a job that was accepted, and returns why it has failed.
func (h *host) ended(j puller.Job, err error) error {
	if err == nil {
		j, err = h.service.Wait(h.Context(), j.ID)
	}
	if err == nil && j.Error != nil {
		err = puller.Errorf(j.Error.Kind, "%s", j.Error.Message)
	}
	return err
}

// What comes to need an image after the last look waits for its removal, and then has it
// pulled again.
func TestNeededTooLate(t *testing.T) {
	for name, need := range needs {
		t.Run(name, func(t *testing.T) {
			withHost(t, graph, asked, func(h *host) {
				for n := range 6 {
					h.pull(image(n), n+1)
				}
				// It comes back once the collector has seen what room its removal gave.
				serve := enginetest.Serve(newImage(image(0), 1))
				h.scripted.Script(image(0), func(p *enginetest.Pull) {
					if p.Wait(time.Second) {
						serve(p)
					}
				})
				<-time.After(2 * time.Hour)
				k := h.keeper()
				granted := make(chan error, 1)
				waited := false
				h.scripted.OnRemoveImage(func(string) {
					if waited {
						return
					}
					waited = true
					go func() { granted <- need(h, k, image(0)) }()
					synctest.Wait()
					select {
					case err := <-granted:
						t.Errorf("it was granted while the image is removed: %v", err)
						granted <- err
					default:
					}
				})
				done := h.collect(false)
				if len(done.Removed) != 1 || done.Removed[0].Names[0] != image(0) {
					t.Errorf("it is %+v", done)
				}
				if err := <-granted; err != nil {
					t.Error(err)
				}
				if here := h.scripted.Has(image(0)); here == (name == "lease") {
					t.Errorf("it is here: %t", here)
				}
			})
		})
	}
}

// An image that somebody is about to need is not removed, though no lease, set or job is known
// yet.
func TestNeededJustInTime(t *testing.T) {
	for name, need := range needs {
		t.Run(name, func(t *testing.T) {
			withHost(t, graph, asked, func(h *host) {
				for n := range 6 {
					h.pull(image(n), n+1)
				}
				<-time.After(2 * time.Hour)
				k := h.keeper()
				// Between the look and the claim.
				var once sync.Once
				lists := 0
				granted := make(chan error, 1)
				h.scripted.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
					if call == "images" {
						if lists++; lists == 2 { // the last look
							once.Do(func() {
								go func() { granted <- need(h, k, image(0)) }()
								synctest.Wait()
							})
						}
					}
					return 0, ""
				})
				h.collect(false)
				if err := <-granted; err != nil {
					t.Error(err)
				}
				if here := h.scripted.Has(image(0)); here == (name == "lease") {
					t.Errorf("it is here: %t", here)
				}
			})
		})
	}
	t.Run("before the claim", func(t *testing.T) {
		withHost(t, graph, asked, func(h *host) {
			for n := range 6 {
				h.pull(image(n), n+1)
			}
			<-time.After(2 * time.Hour)
			k := h.keeper()
			var collected keep.Collection
			var once sync.Once
			h.scripted.OnInspect(func(string, <-chan struct{}) (int, string) {
				once.Do(func() { collected = h.collect(false) }) // the lease asks for the ID
				return 0, ""
			})
			if err := needs["lease"](h, k, image(0)); err != nil {
				t.Error(err)
			}
			if !h.scripted.Has(image(0)) || h.scripted.Has(image(1)) || len(collected.Stayed) == 0 {
				t.Errorf("it is %+v", collected)
			}
			for _, s := range collected.Stayed {
				if s.Names[0] == image(0) && s.Kept[0].Reason != keep.ReasonWanted {
					t.Errorf("it was kept for %+v", s.Kept)
				}
			}
		})
	})
}

// A removal that does not end is not waited for without limit.
func TestRemovalDoesNotEnd(t *testing.T) {
	withHost(t, graph, asked, func(h *host) {
		for n := range 6 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		k := h.keeper()
		h.scripted.OnRemoveImage(func(string) { <-time.After(90 * time.Second) })
		var collecting sync.WaitGroup
		collecting.Go(func() { h.collector.Collect(h.Context(), false) })
		synctest.Wait()
		for name, need := range needs {
			began := time.Now()
			if err := need(h, k, image(3)); err != nil { // another image
				t.Errorf("%s of another image: %v", name, err)
			}
			if time.Since(began) > time.Second && name != "set" && name != "set of a fleet" {
				t.Errorf("%s of another image took %s", name, time.Since(began))
			}
		}
		if err := needs["lease"](h, k, image(0)); puller.KindOf(err) != puller.ErrEngineUnavailable {
			t.Errorf("a lease gives %v", err)
		}
		collecting.Wait()
		if err := needs["lease"](h, k, image(0)); err != nil {
			t.Error(err)
		}
	})
}

// Images that have got a name since the last look are looked at again.
func TestNameSinceTheLook(t *testing.T) {
	o := asked
	o.Collect = collect.All
	withHost(t, graph, o, func(h *host) {
		for n := range 6 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		lists := 0
		h.scripted.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
			if call == "images" {
				if lists++; lists == 2 {
					h.scripted.Tag("registry.test/new:v1", newImage(image(0), 1))
				}
			}
			return 0, ""
		})
		claims := 0
		h.scripted.OnRemoveImage(func(string) {
			claims++
			ctx, cancel := context.WithTimeout(h.Context(), time.Second)
			defer cancel()
			if _, err := h.claims.Need(ctx, []string{"registry.test/new:v1"}); err == nil && claims == 1 {
				t.Error("the new name is not claimed")
			}
		})
		h.collect(false)
		if h.scripted.Has("registry.test/new:v1") || claims != 2 {
			t.Errorf("%d names were removed", claims)
		}
	})
}

// Without a collector, nobody waits.
func TestNoClaims(t *testing.T) {
	var none *claim.Claims
	release, err := none.Need(t.Context(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if release, ok := none.Remove([]string{"a"}); !ok {
		t.Error("nobody needs it")
	} else {
		release()
	}
	if claim.Longest > 2*time.Minute {
		t.Errorf("a removal is waited for for %s", claim.Longest)
	}
}
