package lease

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/index"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/store"
)

// Options are what Leases need.
type Options struct {
	Service puller.Service
	// Claims keep images from being removed while a lease, or a job, is taken for them. nil is
	// for none.
	Claims  *claim.Claims
	Records store.Records
	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
	Clock   func() time.Time      // the system's; nil for time.Now
}

// Leases are all leases. Their methods may be called from anywhere.
type Leases struct {
	o     Options
	taken chan struct{} // has something in it after a job has taken a lease

	saving sync.Mutex // one change at a time; taken before mu

	mu     sync.Mutex
	all    map[string]*kept  // by ID
	byKey  index.Index       // IDs, by record.keys
	byJob  map[string]string // ID by job
	images int               // of all leases
}

// Open reads the leases that are kept. Run must be called for them to end.
func Open(o Options) (*Leases, error) {
	l := &Leases{o: o, all: make(map[string]*kept), byKey: make(index.Index), byJob: make(map[string]string), taken: make(chan struct{}, 1)}
	if o.Clock == nil {
		l.o.Clock = time.Now
	}
	values, err := o.Records.Load(kind)
	if err != nil {
		return nil, fmt.Errorf("load the leases: %w", err)
	}
	wall := l.wall()
	for id, value := range values {
		k := &kept{id: id}
		if err := json.Unmarshal(value, &k.record); err != nil {
			return nil, fmt.Errorf("load the lease %s: %w", id, err)
		}
		k.adjust(wall)
		k.deadline = time.Now().Add(min(k.Expires.Sub(wall), k.TTL))
		l.put(k)
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "towline_leases", Help: "Leases that keep images from collection.",
		}, l.count))
	}
	return l, nil
}

// wall returns what the system's clock says.
func (l *Leases) wall() time.Time { return l.o.Clock().Round(0).UTC() }

// adjust shortens a lease that has longer to go than it ever had: the clock was set back.
func (k *kept) adjust(wall time.Time) {
	if longest := wall.Add(k.TTL); k.Expires.After(longest) {
		k.Expires, k.unsaved = longest, true
	}
}

func (l *Leases) count() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(len(l.all))
}

// put makes a lease known, in the place of the one with its ID. mu is held, or not yet needed.
func (l *Leases) put(k *kept) {
	l.drop(k.id)
	l.all[k.id] = k
	l.byKey.Add(k.id, k.keys())
	if k.Job != "" {
		l.byJob[k.Job] = k.id
	}
	l.images += len(k.Images)
}

// drop forgets a lease, if it is known. mu is held.
func (l *Leases) drop(id string) {
	k := l.all[id]
	if k == nil {
		return
	}
	delete(l.all, id)
	l.byKey.Remove(id, k.keys())
	if l.byJob[k.Job] == id {
		delete(l.byJob, k.Job)
	}
	l.images -= len(k.Images)
}

// get returns a lease that has not expired, or ErrNotFound.
func (l *Leases) get(id string) (*kept, error) {
	wall := l.wall()
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.all[id]; k != nil && !k.expired(wall) {
		return k, nil
	}
	return nil, puller.Errorf(puller.ErrNotFound, "there is no lease %q; it may have expired", puller.Clip(id))
}

// Lease implements keep.Service.
func (l *Leases) Lease(id string) (keep.Lease, error) {
	k, err := l.get(id)
	if err != nil {
		return keep.Lease{}, err
	}
	return k.view(l.wall()), nil
}

// Leases implements keep.Service.
func (l *Leases) Leases(f keep.LeaseFilter) (page []keep.Lease, next string, err error) {
	if err := f.Check(); err != nil {
		return nil, "", err
	}
	wall := l.wall()
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := slices.Collect(maps.Keys(l.all))
	switch {
	case f.Job != "":
		ids = []string{l.byJob[f.Job]}
	case f.Image != "":
		ids = slices.Collect(maps.Keys(l.byKey[names.EngineRef(f.Image)]))
	}
	slices.Sort(ids)
	page = []keep.Lease{}
	for _, id := range slices.Backward(ids) {
		k := l.all[id]
		if k == nil || f.Cursor != "" && id >= f.Cursor || k.expired(wall) || f.Image != "" && !slices.Contains(k.keys(), names.EngineRef(f.Image)) {
			continue
		}
		if len(page) == f.Limit {
			return page, page[f.Limit-1].ID, nil
		}
		page = append(page, k.view(wall))
	}
	return page, "", nil
}

// Protections returns the leases that an image is in. See keep.Protector.
func (l *Leases) Protections(id string, references []string) []keep.Protection {
	wall := l.wall()
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(map[string]bool)
	for _, key := range append([]string{id}, references...) {
		for lease := range l.byKey[key] {
			if k := l.all[lease]; !k.expired(wall) {
				found[lease] = true
			}
		}
	}
	var all []keep.Protection
	for _, lease := range slices.Sorted(maps.Keys(found)) {
		all = append(all, keep.Protection{Kind: keep.ProtectionLease, Name: lease, Until: l.all[lease].view(wall).ExpiresAt, Protects: true})
	}
	return all
}
