package collect_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
)

var trials = flag.Int("trials", 1, "how many random trials there are with each image store; the first has 60 rounds, each other one 200")

// model is what a trial knows of the images, apart from what Towline knows.
type model struct {
	h  *host
	mu sync.Mutex
	// used is when an image came or was last used, and theirs those that somebody else
	// brought, both by ID.
	used   map[string]time.Time
	theirs map[string]bool
}

// use notes a use of an image.
func (m *model) use(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used[id] = time.Now()
}

// check is called before the engine removes a name: nothing that is protected may go.
func (m *model) check(name string) {
	id := m.h.scripted.IDOf(name)
	if id == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	fault := func(format string, args ...any) {
		m.h.Errorf("%s (%.20s) is removed, but %s", name, id, fmt.Sprintf(format, args...))
	}
	if m.theirs[id] {
		fault("somebody else brought it")
	}
	if age := time.Since(m.used[id]); age < m.h.opts.MinAge {
		fault("it came or was used %s ago", age)
	}
	for _, c := range m.h.scripted.Containers() {
		if c.Image == id {
			fault("container %s has it", c.Name)
		}
	}
	for _, held := range m.h.scripted.NamesOf(id) {
		for _, p := range m.h.Protections(id, []string{held}) {
			if p.Protects {
				fault("%s %s has it", p.Kind, p.Name)
			}
		}
	}
}

// Whatever happens, nothing that is protected is removed, and the disk gets below keep.low
// unless something stands in the way.
func TestRandomTrial(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		for seed := range uint64(*trials) {
			rounds := 200
			if seed == 0 {
				rounds = 60
			}
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				o := defaults
				o.Interval, o.MaxPerCycle = 20*time.Minute, 5
				withHost(t, use, o, func(h *host) { trial(h, rand.New(rand.NewPCG(seed, 1)), rounds) })
			})
		}
	})
}

func trial(h *host, random *rand.Rand, rounds int) {
	m := &model{h: h, used: make(map[string]time.Time), theirs: make(map[string]bool)}
	h.scripted.OnRemoveImage(m.check)
	seeds, removed := 0, 0
	var containers []string
	name := func() string { return image(random.IntN(14)) }
	for range rounds {
		one := name()
		switch random.IntN(12) {
		case 0, 1, 2, 3: // a pull through Towline, of something new now and then
			if !h.scripted.Has(one) || random.IntN(3) == 0 {
				seeds++
			}
			before := h.scripted.IDOf(one)
			<-time.After(time.Second)
			h.scripted.Script(one, enginetest.Serve(newImage(one, 100+seeds)))
			j, err := h.service.Pull(puller.PullRequest{Image: one, Policy: []puller.Policy{puller.PolicyMissing, puller.PolicyAlways}[random.IntN(2)]})
			if err == nil {
				j, err = h.service.Wait(h.Context(), j.ID)
			}
			if err != nil || j.State != puller.StateSucceeded {
				h.Fatalf("a pull ended with %+v, %v", j.Error, err)
			}
			id := h.scripted.IDOf(one)
			m.use(id)
			if id == before {
				break
			}
			m.mu.Lock()
			delete(m.theirs, id) // it is new
			m.mu.Unlock()
		case 4: // somebody else brings an image
			seeds++
			other := newImage(one, 100+seeds)
			h.scripted.Tag(one, other)
			id := h.scripted.IDOf(one)
			m.use(id)
			m.mu.Lock()
			m.theirs[id] = true
			m.mu.Unlock()
		case 5, 6:
			if id := h.scripted.IDOf(one); id != "" {
				containers = append(containers, h.container(one, random.IntN(2) == 0))
				m.use(id)
			}
		case 7:
			if len(containers) > 0 {
				at := random.IntN(len(containers))
				h.adapter.Remove(h.Context(), containers[at])
				containers = slices.Delete(containers, at, at+1)
			}
		case 8:
			switch random.IntN(3) {
			case 0:
				h.hold(one)
			case 1:
				h.hold(one, leased)
			case 2:
				h.hold(one, web)
			}
		case 9:
			switch random.IntN(4) {
			case 0:
				h.scripted.Remove(one) // somebody else does
			case 1:
				h.scripted.Kill()
				<-time.After(time.Second)
				h.scripted.Revive()
				<-time.After(time.Minute)
			case 2:
				synctest.Wait()
				h.stop()
				h.start()
			}
		case 10:
			done := h.collect(false)
			removed += len(done.Removed)
			capped := slices.ContainsFunc(done.Stayed, func(s keep.KeptBack) bool {
				return slices.ContainsFunc(s.Kept, func(k keep.Kept) bool { return k.Reason == keep.ReasonLimit })
			})
			if done.After.Used() > h.opts.Low && done.Blocked == "" && !capped {
				h.Errorf("the disk is at %.2f, and nothing stands in the way: %+v", done.After.Used(), done)
			}
		}
		<-time.After(time.Duration(random.IntN(80)) * time.Minute)
	}
	h.stop()
	if removed+strings.Count(h.log.String(), "image removed") == 0 {
		h.Error("nothing was ever removed")
	}
}
