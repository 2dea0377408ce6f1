package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// rows is a queue whose slots a test hands on one by one.
type rows struct {
	*testing.T
	*Queue
	turn    uint64
	waiters []*stand // that have no slot, by turn
	running []*stand
}

func newRows(t *testing.T, all, each int) *rows { return &rows{T: t, Queue: New(all, each)} }

// add has a caller ask for so many images of a registry.
func (r *rows) add(n int, caller, registry string, rank int, batched bool) {
	for range n {
		r.turn++
		w := r.stand(place(fmt.Sprintf("%s.test/image%d:v1", registry, r.turn), Place{
			Callers: []string{caller}, Rank: rank, Batched: batched, Turn: r.turn,
		}))
		r.waiters = append(r.waiters, w)
	}
	r.sort()
}

// sort moves those that have a slot by now to those that run.
func (r *rows) sort() (began []*stand) {
	r.waiters = slices.DeleteFunc(r.waiters, func(w *stand) bool {
		if w.has() {
			began = append(began, w)
		}
		return w.has()
	})
	r.running = append(r.running, began...)
	return began
}

// step ends what has run for longest, and returns the caller that has its slot now.
func (r *rows) step() []*stand {
	r.Helper()
	w := r.running[0]
	r.running = r.running[1:]
	w.Release()
	return r.sort()
}

// callers says for whom the next n slots are.
func (r *rows) callers(n int) (all []string) {
	r.Helper()
	for range n {
		for _, w := range r.step() {
			all = append(all, w.Ticket.callers[0].name)
		}
	}
	return all
}

func (r *rows) end() {
	r.Helper()
	for len(r.running) > 0 {
		r.step()
	}
	if len(r.waiters) > 0 {
		r.Errorf("%d wait for ever", len(r.waiters))
	}
	r.wantEmpty(r.T, r.all)
}

func count(all []string, name string) (n int) {
	for _, one := range all {
		if one == name {
			n++
		}
	}
	return n
}

func TestShareLongList(t *testing.T) {
	r := newRows(t, 2, 0)
	r.add(500, "long", "a", 1, false)
	r.callers(20)
	r.add(3, "short", "a", 1, false)
	if got := r.callers(6); count(got, "short") != 3 {
		t.Errorf("the slots are for %q", got)
	}
	r.callers(50)
	r.add(5, "short", "b", 1, false) // was away, and gets a share and no more
	if got := r.callers(8); count(got, "short") > 5 || count(got, "short") < 3 {
		t.Errorf("the slots are for %q", got)
	}
	r.end()
}

// Callers with one ticket at a time do not keep out a caller with many.
func TestShareCallersComeAndGo(t *testing.T) {
	r := newRows(t, 1, 0)
	r.add(100, "long", "a", 1, false)
	r.add(1, "x", "a", 1, false)
	r.add(1, "y", "a", 1, false)
	var got []string
	for range 60 {
		for _, name := range r.callers(1) {
			got = append(got, name)
			if name != "long" {
				continue
			}
			for _, again := range []string{"x", "y"} {
				if r.Queue.callers[again] == nil {
					r.add(1, again, "a", 1, false)
				}
			}
		}
		// The last that ran has left: they ask again at once.
		for _, again := range []string{"x", "y"} {
			if r.Queue.callers[again] == nil {
				r.add(1, again, "a", 1, false)
			}
		}
	}
	if n := count(got, "long"); n < 18 || n > 30 {
		t.Errorf("%d of %d slots are for the one with many: %q", n, len(got), got)
	}
	r.end()
}

// While one caller's registry is cooling, another takes all slots. That is no
// debt.
func TestShareNoCreditInCoolDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRows(t, 1, 0)
		r.add(1, "cooling", "a", 1, false)
		r.running[0].CoolDown(time.Minute)
		r.add(100, "cooling", "a", 1, false)
		r.add(300, "steady", "b", 1, false)
		if got := r.callers(100); count(got, "steady") != 100 {
			t.Errorf("the slots are for %q", got)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if got := r.callers(20); count(got, "steady") < 8 || count(got, "cooling") < 8 {
			t.Errorf("afterwards the slots are for %q", got)
		}
		r.add(3, "new", "b", 1, false)
		if got := r.callers(8); count(got, "new") < 2 {
			t.Errorf("with a third, the slots are for %q", got)
		}
		r.end()
	})
}

// Who wants an image that a long list of another caller's ends with need not
// wait for that list.
func TestShareJoinedTicket(t *testing.T) {
	r := newRows(t, 1, 0)
	r.add(500, "long", "a", 1, false)
	last := r.waiters[len(r.waiters)-1]
	r.callers(5)
	last.Raise(1, false, "short")
	r.callers(2)
	if !last.has() {
		t.Error("the transfer that both want waits behind the list of one")
	}
	r.end()
}

func TestRankHighBeforePrewarm(t *testing.T) {
	for _, slots := range []int{1, 2, 3, 4, 8} {
		r := newRows(t, slots, 0)
		r.add(50, "ci", "a", 1, true)
		r.step()
		r.add(1, "ci", "a", 2, false)
		began := slices.Clone(r.running)
		if slots < enoughSlots {
			began = r.step()
		}
		if !slices.ContainsFunc(began, func(w *stand) bool { return w.Rank == 2 }) {
			t.Errorf("with %d slots the high one waits", slots)
		}
		r.end()
	}
}

func TestRankPrewarmsLeaveOneSlot(t *testing.T) {
	for _, c := range []struct{ all, each, want int }{{1, 0, 1}, {2, 0, 2}, {3, 0, 3}, {4, 0, 3}, {8, 0, 7}, {8, 6, 5}, {8, 4, 3}, {8, 3, 3}, {8, 20, 7}} {
		r := newRows(t, c.all, c.each)
		r.add(50, "ci", "a", 1, true)
		if len(r.running) != c.want {
			t.Errorf("with %d slots, %d of one registry, a prewarm has %d", c.all, c.each, len(r.running))
		}
		// New callers find a slot.
		r.add(1, "other", "a", 0, false)
		if c.want < min(c.all, max(c.each, 1)) && len(r.running) != c.want+1 {
			t.Errorf("with %d slots, %d of one registry, one that comes waits", c.all, c.each)
		}
		r.end()
	}
	r := newRows(t, 4, 0)
	r.add(50, "ci", "a", 1, true)
	r.running[0].Raise(1, false, "other")
	if r.sort(); len(r.running) != 4 {
		t.Errorf("when one that runs is wanted by another, %d run", len(r.running))
	}
	r.end()
}

// Prewarms get on beside others that never cease to wait.
func TestRankPrewarmNotStarved(t *testing.T) {
	for _, each := range []int{0, 4} {
		r := newRows(t, 4, each)
		r.add(20, "ci", "a", 1, true)
		r.add(500, "others", "a", 1, false)
		for range 60 {
			r.step()
		}
		if slices.ContainsFunc(r.waiters, func(w *stand) bool { return w.Batched }) {
			t.Error("after 60 others have been served, the prewarm still waits")
		}
		r.end()
	}
}

func TestRankLowNotStarved(t *testing.T) {
	for _, c := range []struct {
		name, low, high string
		least, most     int // of 60 slots
	}{
		// A caller's own low ranks get every eighth slot. One had a slot before.
		{"beside high ones of the same caller", "one", "one", 6, 8},
		// Shares are 1 to 4, and every eighth slot goes to the oldest.
		{"beside high ones of another caller", "one", "other", 10, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(t, 1, 0)
			r.add(30, c.low, "a", 0, false)
			var low int
			for range 60 {
				r.add(1, c.high, "a", 2, false)
				for _, w := range r.step() {
					if w.Rank == 0 {
						low++
					}
				}
			}
			if low < c.least || low > c.most {
				t.Errorf("%d of 60 slots are for low ranks", low)
			}
			r.end()
		})
	}
}

// A backlog of high ranks does not hold up another caller's normal ones. It
// gets more of the slots, not all.
func TestShareByRank(t *testing.T) {
	for _, c := range []struct {
		name        string
		rank, other int
		least, most int // of 120 slots, for the caller with the backlog
	}{
		{"high and normal", 2, 1, 75, 90},
		{"high and low", 2, 0, 85, 105},
		{"high and high", 2, 2, 55, 70},
		{"normal and low", 1, 0, 75, 90},
		{"low and high", 0, 2, 20, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(t, 8, 0)
			r.add(536, "backlog", "a", c.rank, false)
			r.callers(100)
			r.add(300, "other", "a", c.other, false)
			if got := r.callers(8); !slices.Contains(got, "other") {
				t.Errorf("the other caller waits for more than 8 slots: %q", got)
			}
			if n := count(r.callers(120), "backlog"); n < c.least || n > c.most {
				t.Errorf("%d of 120 slots are for the backlog", n)
			}
			r.end()
		})
	}
}

// Twenty callers with one job at a time and one with a long list of high ranks:
// each of the twenty waits for at most one round of all.
func TestShareBacklog(t *testing.T) {
	r := newRows(t, 1, 0)
	r.add(536, "backlog", "a", 2, false)
	waited := map[string]int{}
	for i := range 20 {
		r.add(1, fmt.Sprint(i), "a", 1, false)
	}
	for slot := range 400 {
		for _, name := range r.callers(1) {
			if name == "backlog" {
				continue
			}
			if w := slot - waited[name]; w > 30 {
				t.Errorf("after %d slots, the caller %s has waited for %d", slot, name, w)
			}
			waited[name] = slot
			r.add(1, name, "a", 1, false)
		}
	}
	if len(waited) != 20 {
		t.Errorf("%d of 20 callers were served", len(waited))
	}
	for len(r.waiters) > 0 {
		r.waiters[0].Abandon()
		r.waiters = r.waiters[1:]
	}
	r.end()
}

// Whatever comes and goes, no limit is passed, no slot is idle that one may
// have, and all get theirs.
func TestQueueLimits(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		all, each := 1+random.IntN(8), random.IntN(6)
		r := newRows(t, all, each)
		for range 300 {
			switch random.IntN(8) {
			case 0, 1, 2:
				r.turn++
				w := r.stand(place(fmt.Sprintf("r%d.test/image%d:v1", random.IntN(3), random.IntN(10)), Place{
					Platform: []string{"linux/amd64", "linux/arm64"}[random.IntN(2)],
					Callers:  []string{fmt.Sprint(random.IntN(4))}, Rank: random.IntN(3), Batched: random.IntN(2) == 0, Turn: r.turn,
				}))
				r.waiters = append(r.waiters, w)
			case 3:
				if len(r.waiters) > 0 {
					r.waiters[random.IntN(len(r.waiters))].Raise(random.IntN(3), random.IntN(2) == 0, fmt.Sprint(random.IntN(6)))
				}
			case 4:
				if len(r.running) > 0 {
					r.running[random.IntN(len(r.running))].Raise(2, false, "late")
				}
			case 5:
				if len(r.waiters) > 0 {
					i := random.IntN(len(r.waiters))
					w := r.waiters[i]
					r.waiters = slices.Delete(r.waiters, i, i+1)
					w.Abandon()
					w.Raise(2, false, "too late")
				}
			default:
				if len(r.running) > 0 {
					i := random.IntN(len(r.running))
					w := r.running[i]
					r.running = slices.Delete(r.running, i, i+1)
					w.Release()
				}
			}
			r.sort()
			r.limits(seed)
		}
		r.end()
	}
}

func (r *rows) limits(seed uint64) {
	r.Helper()
	hosts, batched, platforms := map[*registry]int{}, map[*registry]int{}, map[string]string{}
	inAll := 0
	for _, w := range r.running {
		hosts[w.registry]++
		if w.Batched {
			inAll++
			batched[w.registry]++
		}
		if p, ok := platforms[w.Image]; ok && p != w.Platform {
			r.Fatalf("seed %d: two platforms of %s run", seed, w.Image)
		}
		platforms[w.Image] = w.Platform
	}
	leaves := func(batched, slots int) bool { return slots < 4 || batched < slots-1 }
	for h, n := range hosts {
		if n > r.perRegistry || len(r.running) > r.all {
			r.Fatalf("seed %d: %d run, %d of one registry; %d may, and %d", seed, len(r.running), n, r.all, r.perRegistry)
		}
		if !leaves(batched[h]-1, r.perRegistry) || !leaves(inAll-1, r.all) {
			r.Fatalf("seed %d: prewarms have %d slots, %d of one registry; there are %d and %d", seed, inAll, batched[h], r.all, r.perRegistry)
		}
	}
	for _, w := range r.waiters {
		p, ok := platforms[w.Image]
		if len(r.running) < r.all && hosts[w.registry] < r.perRegistry && (!ok || p == w.Platform) &&
			(!w.Batched || leaves(inAll, r.all) && leaves(batched[w.registry], r.perRegistry)) {
			r.Fatalf("seed %d: one waits though it may run", seed)
		}
	}
}

// A list as long as there may be does not cost its square, while its registry
// is cooling and while it is served.
func TestQueueLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRows(t, 8, 6)
		r.add(1, "ci", "a", 1, true)
		r.running[0].CoolDown(time.Hour)
		r.add(20_000, "ci", "a", 1, true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, w := range r.waiters[10_000:] {
			if w.acquire(ctx) {
				t.Fatal("it has a slot while its registry is cooling")
			}
		}
		r.waiters = r.waiters[:10_000]
		r.add(1000, "other", "b", 1, false)
		for len(r.waiters) > 10_000 {
			r.step()
		}
		<-time.After(time.Hour)
		synctest.Wait()
		// r.sort looks at all that wait, which is the test's own square.
		for served := range 9_000 {
			w := r.running[0]
			r.running = r.running[1:]
			w.Release()
			for len(r.waiters) > 0 && r.waiters[0].has() {
				r.running, r.waiters = append(r.running, r.waiters[0]), r.waiters[1:]
			}
			if len(r.running) == 0 {
				t.Fatalf("after %d nothing runs", served)
			}
		}
		for len(r.waiters) > 0 {
			r.waiters[0].Abandon()
			r.waiters = r.waiters[1:]
			r.sort()
		}
		r.end()
	})
}
