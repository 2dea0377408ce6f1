package host

import (
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// table has the sets that the fleet has for this host, and how they stand. The other parts of a
// Host share it.
type table struct {
	kicks chan struct{} // has something in it after there is something to do
	news  chan struct{} // has something in it after there is something to report

	mu   sync.Mutex // guards what follows; no call is made while it is held
	sets map[string]*local
}

// local is a set of the fleet on this host. table.mu guards it.
type local struct {
	fleet.DesiredSet
	refused *fleet.Report // by this host's version

	put      bool // it was made a set of this host in this session
	retryAt  time.Time
	refusal  error     // why it was not
	askedAt  time.Time // when a job was asked to prove what is there
	tagged   map[string]time.Time
	report   fleet.Report
	said     *fleet.Report // that NATS has
	saidAt   time.Time
	provenAt uint64 // the generation that was logged as proven
}

// want has a set become another generation of it.
func (l *local) want(s fleet.DesiredSet) {
	same := l.Generation == s.Generation && l.Protect == s.Protect && l.Priority == s.Priority && l.Window == s.Window && l.Timezone == s.Timezone
	l.refused = nil
	if same {
		return
	}
	*l = local{DesiredSet: s, said: l.said, saidAt: l.saidAt, provenAt: l.provenAt, tagged: make(map[string]time.Time)}
}

// kick has the sets looked at soon.
func (t *table) kick() {
	select {
	case t.kicks <- struct{}{}:
	default:
	}
}

func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sets)
}

// counts returns how many sets are in each state.
func (t *table) counts() map[fleet.State]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := make(map[fleet.State]int)
	for _, l := range t.sets {
		switch {
		case l.refused != nil:
			counts[fleet.StateRefused]++
		case l.report.State == "":
			counts[fleet.StateWaiting]++
		default:
			counts[l.report.State]++
		}
	}
	return counts
}

func (t *table) names() (all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.sets {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// get returns a copy of a set.
func (t *table) get(name string) (l local, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.sets[name]
	if p == nil {
		return local{}, false
	}
	return *p, true
}

// yields reports whether another set has put the name of an image to another digest: that of the
// first set by name counts.
func (t *table) yields(set string, pinned fleet.Image) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, l := range t.sets {
		if name < set && !l.tagged[pinned.Image].IsZero() && slices.ContainsFunc(l.Images, func(i fleet.Image) bool { return i.Image == pinned.Image && i.Digest != pinned.Digest }) {
			return true
		}
	}
	return false
}

// update changes a set, unless it has become another generation.
func (t *table) update(name string, generation uint64, change func(l *local)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.sets[name]; l != nil && l.Generation == generation {
		change(l)
	}
}

// want has the table have what this host is to have, and returns the names of that, and of what
// it is not to have any more.
func (t *table) want(d fleet.Desired) (wanted map[string]bool, gone []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted = make(map[string]bool)
	for _, s := range d.Sets {
		wanted[s.Set] = true
		t.local(s.Set).want(s)
	}
	gone = slices.DeleteFunc(slices.Sorted(maps.Keys(t.sets)), func(name string) bool { return wanted[name] })
	for _, name := range gone {
		delete(t.sets, name)
	}
	return wanted, gone
}

// refuse has the table say that generations of sets are refused.
func (t *table) refuse(reports map[string]*fleet.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, r := range reports {
		t.local(name).refused = r
	}
}

// local returns a set, made if it is not there. The caller holds mu.
func (t *table) local(name string) *local {
	l := t.sets[name]
	if l == nil {
		l = &local{}
		t.sets[name] = l
	}
	return l
}

// report keeps how a generation of a set stands.
func (t *table) report(name string, generation uint64, r fleet.Report) {
	r = bounded(r)
	t.update(name, generation, func(l *local) {
		if reflect.DeepEqual(l.report, r) {
			return
		}
		l.report = r
		select {
		case t.news <- struct{}{}:
		default:
		}
	})
}

// bounded shortens what a report says, so that it is taken.
func bounded(r fleet.Report) fleet.Report {
	const most = 500 // bytes of a reason
	r.Error = puller.ClipTo(r.Error, most)
	r.Images = slices.Clone(r.Images)
	for n := range r.Images {
		r.Images[n].Error = puller.ClipTo(r.Images[n].Error, most)
	}
	for len(r.Images) > 0 && len(fleet.Encode(r)) > fleet.MaxReport {
		r.Images = r.Images[:len(r.Images)-1]
	}
	return r
}

// unsaid returns the reports that NATS does not have yet. Those of a set that is not at an end
// come once in a time.
func (t *table) unsaid(every time.Duration) map[string]fleet.Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all map[string]fleet.Report
	for name, l := range t.sets {
		r := l.report
		if l.refused != nil {
			r = *l.refused
		}
		if r.State == "" || l.said != nil && reflect.DeepEqual(*l.said, r) {
			continue
		}
		if !r.State.Ended() && time.Since(l.saidAt) < every {
			continue
		}
		if all == nil {
			all = make(map[string]fleet.Report)
		}
		all[name] = r
	}
	return all
}

// said notes that NATS has a report.
func (t *table) said(name string, r fleet.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.sets[name]; l != nil {
		l.said, l.saidAt = &r, time.Now()
	}
}

// forgetSaid has all be said again.
func (t *table) forgetSaid() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.sets {
		l.said, l.saidAt = nil, time.Time{}
	}
}
