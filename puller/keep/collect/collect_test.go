package collect_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/collect"
)

var (
	web    = keep.Protection{Kind: keep.ProtectionSet, Name: "web", Protects: true}
	leased = keep.Protection{Kind: keep.ProtectionLease, Name: "01J", Protects: true}
)

// What keeps an image.
func TestKept(t *testing.T) {
	const name = "registry.test/imagea:v1"
	old := func(h *host) { h.pull(name, 1); <-time.After(2 * time.Hour) }
	for _, c := range []struct {
		name string
		act  func(h *host)
		want []keep.Kept // Details that are times are left out
	}{
		{"nothing", old, nil},
		{"young", func(h *host) { h.pull(name, 1) }, []keep.Kept{{Reason: keep.ReasonYoung}}},
		{"used", func(h *host) { old(h); h.pull(name, 1) }, []keep.Kept{{Reason: keep.ReasonYoung}}},
		{"running", func(h *host) {
			old(h)
			h.scripted.Program(h.scripted.IDOf(name), enginetest.Hang(""))
			h.container(name, true)
			<-time.After(2 * time.Hour)
		}, []keep.Kept{{Reason: keep.ReasonContainer, Detail: "unnamed_1"}}},
		{"exited", func(h *host) { old(h); h.container(name, true); <-time.After(2 * time.Hour) }, []keep.Kept{{Reason: keep.ReasonContainer, Detail: "unnamed_1"}}},
		{"created", func(h *host) { old(h); h.container(name, false); <-time.After(2 * time.Hour) }, []keep.Kept{{Reason: keep.ReasonContainer, Detail: "unnamed_1"}}},
		{"by name", func(h *host) { // the next container of it is of the image that has the name now
			old(h)
			h.scripted.AddContainer(enginetest.ContainerRequest{Image: name}, false)
			<-time.After(2 * time.Hour)
		}, []keep.Kept{{Reason: keep.ReasonContainer, Detail: "unnamed_1"}}},
		{"set", func(h *host) { old(h); h.hold(name, web) }, []keep.Kept{{Reason: keep.ReasonSet, Detail: "web"}}},
		{"set that does not protect", func(h *host) { old(h); h.hold(name, keep.Protection{Kind: keep.ProtectionSet, Name: "web"}) }, nil},
		{"lease", func(h *host) { old(h); h.hold(name, leased) }, []keep.Kept{{Reason: keep.ReasonLease, Detail: "01J"}}},
		{"pattern", func(h *host) {
			old(h)
			h.stop()
			h.opts.Protect = func(n string) (string, bool) { return "registry.test/**", n == name }
			h.start()
		}, []keep.Kept{{Reason: keep.ReasonProtected, Detail: "registry.test/**"}}},
		{"by others", func(h *host) {
			h.scripted.Tag(name, newImage(name, 1))
			<-time.After(2 * time.Hour)
			h.pull(name, 1)
			<-time.After(2 * time.Hour)
		}, []keep.Kept{{Reason: keep.ReasonOwner}}},
		{"other name", func(h *host) { old(h); h.scripted.Tag("theirs:v1", newImage(name, 1)); <-time.After(2 * time.Hour) },
			[]keep.Kept{{Reason: keep.ReasonOwner, Detail: "docker.io/library/theirs:v1"}}},
		{"all", func(h *host) {
			h.scripted.Tag(name, newImage(name, 1))
			<-time.After(2 * time.Hour)
			h.stop()
			h.opts.Collect = collect.All
			h.start()
			<-time.After(2 * time.Hour)
		}, nil},
		{"parent", func(h *host) {
			old(h)
			child := newImage(image(1), 2)
			h.scripted.Tag(image(1), child)
			h.scripted.MakeFrom(child.ID, h.scripted.IDOf(name))
		}, []keep.Kept{{Reason: keep.ReasonParent}}},
		{"restart", func(h *host) { old(h); h.stop(); <-time.After(time.Hour); h.start() }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			withHost(t, graph, defaults, func(h *host) {
				c.act(h)
				got := h.image(name)
				for n, k := range got.Kept {
					if k.Reason == keep.ReasonYoung {
						got.Kept[n].Detail = ""
					}
				}
				if diff := cmp.Diff(c.want, got.Kept); diff != "" || got.Collectable != (len(c.want) == 0) {
					t.Errorf("collectable is %v; %s", got.Collectable, diff)
				}
				done := h.collect(true)
				if planned := len(done.Removed) > 0; planned { // there is room
					t.Errorf("the plan is %+v", done)
				}
			})
		})
	}
	t.Run("job", func(t *testing.T) {
		withHost(t, graph, defaults, func(h *host) {
			old(h)
			h.scripted.Script(name, func(p *enginetest.Pull) { p.Wait(3 * time.Hour) })
			j, err := h.service.Pull(puller.PullRequest{Image: name, Policy: puller.PolicyAlways, Timeout: puller.Duration(10 * time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Hour)
			if diff := cmp.Diff([]keep.Kept{{Reason: keep.ReasonWanted, Detail: j.ID}}, h.image(name).Kept); diff != "" {
				t.Error(diff)
			}
		})
	})
}

// The disk is held below the high water.
func TestWater(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		withHost(t, use, defaults, func(h *host) {
			for n := range 7 {
				h.pull(image(n), n+1)
			}
			<-time.After(3 * time.Hour)
			if !h.scripted.Has(image(0)) {
				t.Error("below the high water an image was removed")
			}
			h.pull(image(0), 1) // it is the one that was used last
			h.pull(image(7), 8)
			<-time.After(10 * time.Minute)
			var have []string
			for n := range 8 {
				if h.scripted.Has(image(n)) {
					have = append(have, image(n))
				}
			}
			if diff := cmp.Diff([]string{image(0), image(4), image(5), image(6), image(7)}, have); diff != "" {
				t.Error(diff)
			}
			h.stop()
			if n := strings.Count(h.log.String(), "image removed"); n != 3 {
				t.Errorf("there are %d log lines of removals in\n%s", n, h.log)
			}
		})
	})
}

func TestOrder(t *testing.T) {
	withHost(t, graph, asked, func(h *host) {
		for n := range 3 {
			h.pull(image(n), n+1)
		}
		<-time.After(time.Second)
		// Of images that came at one moment, the largest goes first.
		for n, size := range []int64{1000, 3000, 2000} {
			i := newImage(image(3+n), 4+n)
			i.Size = size
			h.scripted.Script(image(3+n), enginetest.Serve(i))
		}
		if _, err := h.service.Prewarm(puller.PrewarmRequest{Images: []puller.PullRequest{{Image: image(3)}, {Image: image(4)}, {Image: image(5)}}}); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		h.pull(image(1), 2)
		done := h.collect(true)
		if diff := cmp.Diff([]string{image(0), image(2), image(4)}, names(done.Removed)); diff != "" {
			t.Error(diff)
		}
		want := map[string]keep.Reason{image(1): keep.ReasonYoung, image(3): keep.ReasonNotNeeded, image(5): keep.ReasonNotNeeded}
		got := map[string]keep.Reason{}
		for _, s := range done.Stayed {
			got[s.Names[0]] = s.Kept[0].Reason
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if !h.scripted.Has(image(0)) || !done.DryRun || done.Before.Free != 1000 || done.After.Free != 6000 {
			t.Errorf("the plan is %+v, from %+v to %+v", done, done.Before, done.After)
		}
		real := h.collect(false)
		if diff := cmp.Diff(done.Removed, real.Removed); diff != "" || h.scripted.Has(image(0)) || real.After.Free != 6000 {
			t.Errorf("what was done differs from the plan: %s", diff)
		}
	})
}

func TestLimit(t *testing.T) {
	o := asked
	o.MaxPerCycle = 1
	withHost(t, graph, o, func(h *host) {
		for n := range 9 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		if done := h.collect(false); len(done.Removed) != 1 || done.Blocked != "" {
			t.Errorf("it is %+v", done)
		}
		h.stop()
		h.opts.Interval = 5 * time.Minute
		h.start()
		<-time.After(11 * time.Minute)
		if n := h.scripted.Stored(); n != 7000 { // it is below the high water
			t.Errorf("after two more cycles there are %d bytes", n)
		}
	})
}

// A pattern that protects nothing is told once.
func TestIdlePattern(t *testing.T) {
	o := asked
	o.Patterns = []string{"registry.test/**", "registry.tset/**"}
	o.Protect = func(string) (string, bool) { return "registry.test/**", true }
	withHost(t, graph, o, func(h *host) {
		h.pull(image(0), 1)
		h.collect(true)
		h.collect(false)
		h.stop()
		const words = `keep.protect: the pattern \"registry.tset/**\" protects no image`
		if got := strings.Count(h.log.String(), "protects no image"); got != 1 || !strings.Contains(h.log.String(), words) {
			t.Errorf("it is told %d times: %s", got, h.log)
		}
	})
}

// Each removal is told.
func TestRemovalIsTold(t *testing.T) {
	withHost(t, graph, asked, func(h *host) {
		for n := range 8 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		if h.collect(true); len(h.told()) > 0 {
			t.Errorf("a plan has told %+v", h.told())
		}
		done := h.collect(false)
		var want []puller.ImageChange
		for _, r := range done.Removed {
			want = append(want, puller.ImageChange{Action: puller.ImageRemoved, ID: r.ID, Names: r.Names, Digest: strings.Split(r.Names[1], "@")[1], Size: 1000, Freed: r.Freed, Why: r.Why})
		}
		if diff := cmp.Diff(want, h.told()); diff != "" || len(want) != 3 {
			t.Error(len(want), diff)
		}
	})
}

func TestUnused(t *testing.T) {
	o := defaults
	o.MaxUnused = 24 * time.Hour
	for name, total := range map[string]int64{"room": 1_000_000, "disk unknown": 0} {
		t.Run(name, func(t *testing.T) {
			withHost(t, graph, o, func(h *host) {
				h.engine.total = total
				h.pull(image(0), 1)
				h.pull(image(1), 2)
				<-time.After(20 * time.Hour)
				h.pull(image(1), 2)
				<-time.After(5 * time.Hour)
				if h.scripted.Has(image(0)) || !h.scripted.Has(image(1)) {
					t.Error("it is not the unused one that has gone")
				}
			})
		})
	}
}

// Where nothing can be removed, that is said once.
func TestBlocked(t *testing.T) {
	withHost(t, graph, defaults, func(h *host) {
		for n := range 9 {
			h.pull(image(n), n+1)
			h.hold(image(n), web)
		}
		h.container(image(8), true)
		<-time.After(12 * time.Hour)
		const words = "the engine's disk can't be brought below keep.low (50%): of its images are 1 used by containers (1kB), 8 in sets (8kB)"
		if done := h.collect(false); len(done.Removed) != 0 || done.Blocked != words {
			t.Errorf("it says %q", done.Blocked)
		}
		before := strings.Count(h.log.String(), "can't be brought below")
		h.hold(image(0))
		<-time.After(12 * time.Hour)
		h.stop()
		if after := strings.Count(h.log.String(), "can't be brought below"); before != 1 || after != 2 || h.scripted.Has(image(0)) {
			t.Errorf("in 12 hours it was said %d times, and after a change %d times:\n%s", before, after, h.log)
		}
	})
}

// What keeps an image may come while others are removed.
func TestAskedAgain(t *testing.T) {
	for name, act := range map[string]func(h *host, last string){
		"container": func(h *host, last string) { h.container(last, false) },
		"lease":     func(h *host, last string) { h.hold(last, leased) },
		"use":       func(h *host, last string) { h.scripted.AddEvent("pull", last, last); synctest.Wait() },
		"job": func(h *host, last string) {
			h.scripted.Script(last, func(p *enginetest.Pull) { p.Wait(time.Minute) })
			if _, err := h.service.Pull(puller.PullRequest{Image: last, Policy: puller.PolicyAlways}); err != nil {
				h.Error(err)
			}
		},
		"name": func(h *host, last string) { h.scripted.Tag("theirs:v1", newImage(last, 2)) },
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, use func(*enginetest.Engine)) {
				withHost(t, use, defaults, func(h *host) {
					for n := range 7 {
						h.pull(image(n), n+1)
					}
					<-time.After(2 * time.Hour)
					done := false
					h.scripted.OnRemoveImage(func(name string) {
						if !done {
							done = true
							act(h, image(1))
						}
					})
					got := h.collect(false)
					if diff := cmp.Diff([]string{image(0), image(2)}, names(got.Removed)); diff != "" || !h.scripted.Has(image(1)) {
						t.Errorf("%s %+v", diff, got)
					}
				})
			})
		})
	}
}

// Leftovers of a tag that has moved are removed by their IDs, if they were ours.
func TestDangling(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		withHost(t, use, asked, func(h *host) {
			h.pull(image(0), 1)
			ours := h.scripted.IDOf(image(0))
			<-time.After(2 * time.Minute)
			h.scripted.Tag("theirs:v1", newImage("theirs:v1", 20))
			theirs := h.scripted.IDOf("theirs:v1")
			h.scripted.Tag("theirs:v1", newImage("theirs:v1", 21))
			h.scripted.Script(image(0), enginetest.Serve(newImage(image(0), 2)))
			if _, err := h.service.Pull(puller.PullRequest{Image: image(0), Policy: puller.PolicyAlways}); err != nil {
				t.Fatal(err)
			}
			for n := range 4 {
				h.pull(image(3+n), 3+n)
			}
			<-time.After(2 * time.Hour)
			done := h.collect(false)
			if len(done.Removed) == 0 || done.Removed[0].ID != ours || len(done.Removed[0].Names) != 0 || h.scripted.Has(ours) || !h.scripted.Has(theirs) {
				t.Errorf("it is %+v", done)
			}
		})
	})
}

// An image that the engine does not remove is left alone for a while.
func TestRemovalFails(t *testing.T) {
	withHost(t, graph, defaults, func(h *host) {
		for n := range 9 {
			h.pull(image(n), n+1)
		}
		tries := 0
		h.scripted.OnRemoveImage(func(name string) {
			if name == image(0) {
				tries++
				h.container(image(0), false)
				h.scripted.AddContainer(enginetest.ContainerRequest{Image: h.scripted.IDOf(image(0))}, false)
			}
		})
		<-time.After(10 * time.Hour)
		if tries != 1 || !h.scripted.Has(image(0)) || h.scripted.Stored() != 5000 {
			t.Errorf("it was tried %d times, and %d bytes are left", tries, h.scripted.Stored())
		}
	})
	t.Run("engine gone", func(t *testing.T) {
		withHost(t, graph, defaults, func(h *host) {
			for n := range 7 {
				h.pull(image(n), n+1)
			}
			<-time.After(2 * time.Hour)
			h.scripted.OnRemoveImage(func(string) { h.scripted.Kill() })
			_, err := h.collector.Collect(h.Context(), false)
			if kind := puller.KindOf(err); kind != puller.ErrEngineUnavailable && kind != puller.ErrTruncated {
				t.Errorf("the error is %v", err)
			}
			h.scripted.OnRemoveImage(nil)
			h.scripted.Revive()
			<-time.After(10 * time.Minute)
			if done := h.collect(false); done.After.Free < 5000 {
				t.Errorf("later it is %+v", done)
			}
		})
	})
}

// Another collector removes the same images.
func TestTwoCollectors(t *testing.T) {
	withHost(t, graph, asked, func(h *host) {
		for n := range 9 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		h.scripted.OnRemoveImage(func(name string) { h.scripted.Remove(name); h.scripted.Remove(image(1)) })
		done := h.collect(false)
		if done.Blocked != "" || h.scripted.Stored() != 5000 || slices.Contains(names(done.Removed), image(1)) {
			t.Errorf("it is %+v", done)
		}
	})
}

// An engine may list nothing, though it has images and containers.
func TestNothingListed(t *testing.T) {
	for name, nothing := range map[string]any{"null": nil, "empty": []any{}} {
		answer := func(h *host, list string) {
			for n := range 9 {
				if h.pull(image(n), n+1); n == 0 {
					h.container(image(0), true)
				}
			}
			<-time.After(2 * time.Hour)
			h.scripted.OnContainerAnswer(func(call string, answer any) any {
				if call == list {
					return nothing
				}
				return answer
			})
		}
		t.Run(name+"/images", func(t *testing.T) {
			withHost(t, graph, asked, func(h *host) {
				answer(h, "images")
				if done := h.collect(false); len(done.Removed) != 0 || done.Blocked == "" || h.scripted.Stored() != 9000 {
					t.Errorf("it is %+v", done)
				}
				// Who brought them then is not known any more.
				h.scripted.OnContainerAnswer(nil)
				if done := h.collect(false); len(done.Removed) != 0 || done.Blocked == "" || h.scripted.Stored() != 9000 {
					t.Errorf("once they are there again, it is %+v", done)
				}
			})
		})
		t.Run(name+"/containers", func(t *testing.T) {
			withHost(t, graph, asked, func(h *host) {
				answer(h, "list")
				// The engine itself refuses to remove what a container uses.
				if done := h.collect(false); len(done.Removed) != 4 || !h.scripted.Has(image(0)) || !strings.Contains(h.log.String(), "an image can't be removed") {
					t.Errorf("it is %+v", done)
				}
			})
		})
	}
}

func TestOff(t *testing.T) {
	o := defaults
	o.Collect = collect.Off
	withHost(t, graph, o, func(h *host) {
		for n := range 9 {
			h.pull(image(n), n+1)
		}
		<-time.After(24 * time.Hour)
		if _, err := h.collector.Collect(t.Context(), false); puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), "keep.collect") {
			t.Errorf("the error is %v", err)
		}
		if done := h.collect(true); len(done.Removed) != 4 || h.scripted.Stored() != 9000 {
			t.Errorf("the plan is %+v", done)
		}
		disk, blocked, err := h.collector.Free(t.Context(), 5000)
		if disk == nil || blocked == "" || err != nil || h.scripted.Stored() != 9000 {
			t.Errorf("it is %+v, %q, %v", disk, blocked, err)
		}
	})
}

func TestFree(t *testing.T) {
	o := defaults
	o.MaxPerCycle = 1 // not for a pull that waits
	withHost(t, graph, o, func(h *host) {
		for n := range 7 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		h.hold(image(6), web)
		disk, blocked, err := h.collector.Free(h.Context(), 5500)
		if err != nil || blocked != "" || disk.Free != 6000 {
			t.Errorf("it is %+v, %q, %v", disk, blocked, err)
		}
		disk, blocked, err = h.collector.Free(h.Context(), 50_000)
		if err != nil || !strings.Contains(blocked, "1 in sets") || disk.Free != 6000 { // in vain, nothing is removed
			t.Errorf("it is %+v, %q, %v", disk, blocked, err)
		}
	})
}

func TestEngineAway(t *testing.T) {
	withHost(t, graph, defaults, func(h *host) {
		h.pull(image(0), 1)
		h.scripted.Kill()
		if _, _, err := h.collector.Images(h.Context(), keep.ImageFilter{}); puller.KindOf(err) != puller.ErrEngineUnavailable {
			t.Errorf("the error is %v", err)
		}
		if _, err := h.collector.Collect(context.Background(), true); puller.KindOf(err) != puller.ErrEngineUnavailable {
			t.Errorf("the error is %v", err)
		}
		h.scripted.Revive()
	})
}
