// Package room says whether an engine's disk has room for a pull, before a byte of it is
// fetched.
package room

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/store"
)

// Options are what an Admission is made with.
type Options struct {
	Engine   engines.Engine
	Registry puller.Registry // nil for none
	// Records keep how much images take unpacked.
	Records store.Records
	// Reserve is how many bytes of the disk are not for images, at most a tenth of it.
	Reserve int64
	// Free makes room: it removes images until so many bytes are free, and says what
	// stands in the way. nil is for nothing that can be removed.
	Free func(ctx context.Context, bytes int64) (disk *puller.Disk, blocked string, err error)
	// Spool returns how many of the blobs of a pull are stored on the engine's disk
	// once more, beside what the engine keeps, in bytes. nil is for none.
	Spool func([]puller.Blob) int64

	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
}

// What a pull needs is only asked for where the disk has less than askBytes free, so that
// no other pull waits for a registry. Where the answer counts against a registry's rate
// limit, it is asked for below countBytes.
const (
	askBytes   = 10 << 30
	countBytes = 4 << 30
)

// Admission implements engines.Admission.
type Admission struct {
	opts    Options
	metrics *prometheus.CounterVec // by outcome

	mu      sync.Mutex
	ratios  ratios
	rooms   rooms
	unknown bool // it was logged that the disk is not known
}

var _ engines.Admission = (*Admission)(nil)

// New returns an Admission.
func New(o Options) *Admission {
	a := &Admission{
		opts: o, ratios: make(ratios),
		metrics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_admissions_total", Help: "Pulls that asked for room, by outcome: roomy (no need to ask what they take), admitted, refused, or unknown.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"roomy", "admitted", "refused", "unknown"} { // there from the start
		a.metrics.WithLabelValues(outcome)
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(a.metrics)
	}
	return a
}

func nothing(puller.Image) {}

// mostFrees is how often images are removed for a pull while other pulls take the room.
const mostFrees = 5

// Admit implements engines.Admission.
func (a *Admission) Admit(ctx context.Context, p puller.Pull, notice func(string)) (release func(puller.Image), err error) {
	disk, err := a.opts.Engine.Disk(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil || disk == nil:
		a.tellUnknown(err)
		a.metrics.WithLabelValues("unknown").Inc()
		return nothing, nil
	case a.isRoomy(disk):
		a.metrics.WithLabelValues("roomy").Inc()
		return nothing, nil
	}
	want, err := a.ask(ctx, p, disk.Free >= countBytes)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, puller.ErrCounts):
		a.metrics.WithLabelValues("unknown").Inc()
		return nothing, nil
	case puller.KindOf(err) == puller.ErrNotFound, puller.KindOf(err) == puller.ErrDenied:
		// The engine's pull will say so too.
		a.metrics.WithLabelValues("unknown").Inc()
		return nothing, nil
	case err != nil:
		notice(fmt.Sprintf("it is not known whether the engine's disk has room for this pull: %v", puller.Inner(err)))
		a.metrics.WithLabelValues("unknown").Inc()
		return nothing, nil
	}
	if release, err = a.admit(ctx, want); err != nil {
		a.metrics.WithLabelValues("refused").Inc()
		return nil, &puller.Error{Op: "pull " + p.Image, Kind: puller.KindOf(err), Err: puller.Inner(err)}
	}
	a.metrics.WithLabelValues("admitted").Inc()
	return release, nil
}

// tellUnknown logs once that the disk is not known.
func (a *Admission) tellUnknown(err error) {
	a.mu.Lock()
	told := a.unknown
	a.unknown = true
	a.mu.Unlock()
	if !told {
		a.opts.Log.WithError(err).Info("the engine's disk is not known: it is another machine's, or can't be read from here; pulls are not checked for room")
	}
}

// isRoomy reports whether the disk has so much room that no pull is asked what it needs.
func (a *Admission) isRoomy(disk *puller.Disk) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return disk.Free-a.rooms.outstanding(disk.Free) >= askBytes
}

// reserve returns how many bytes of the disk are not for images.
func (a *Admission) reserve(disk *puller.Disk) int64 { return min(a.opts.Reserve, disk.Total/10) }

// admit keeps room for a pull. Where there is not enough, it looks first which layers the
// engine has, and then has images removed.
func (a *Admission) admit(ctx context.Context, w want) (func(puller.Image), error) {
	blocked := ""
	steps := []func(*puller.Disk) error{
		func(*puller.Disk) error { return nil },
		func(*puller.Disk) error { return a.leaveOutPresent(ctx, &w) },
	}
	if a.opts.Free != nil {
		// Other pulls take room while images are removed. So it is made again.
		free := func(disk *puller.Disk) (err error) { blocked, err = a.free(ctx, w, disk); return err }
		steps = append(steps, slices.Repeat([]func(*puller.Disk) error{free}, mostFrees)...)
	}
	for _, prepare := range steps {
		disk, err := a.opts.Engine.Disk(ctx)
		if err == nil && disk != nil {
			err = prepare(disk)
		}
		if err == nil {
			disk, err = a.opts.Engine.Disk(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			a.opts.Log.WithError(err).Warn("room for a pull can't be made")
			blocked = err.Error()
			continue
		case disk == nil:
			return nothing, nil
		}
		if release, ok := a.hold(w, disk); ok {
			return release, nil
		}
		if blocked != "" {
			break // there is nothing more to remove
		}
	}
	disk, err := a.opts.Engine.Disk(ctx)
	if err != nil || disk == nil {
		return nothing, nil
	}
	return nil, a.refusal(w, disk, blocked)
}

// hold keeps room for a pull, if there is enough.
func (a *Admission) hold(w want, disk *puller.Disk) (release func(puller.Image), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := a.bytes(w)
	if bytes > 0 && bytes > disk.Free-a.rooms.outstanding(disk.Free)-a.reserve(disk) {
		return nil, false
	}
	a.rooms.add(bytes, disk.Free)
	return func(brought puller.Image) { a.release(w, bytes, brought) }, true
}

// release gives up the room of a pull that has ended.
func (a *Admission) release(w want, bytes int64, brought puller.Image) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	disk, err := a.opts.Engine.Disk(ctx)
	free := int64(0)
	if err == nil && disk != nil {
		free = disk.Free
	}
	a.mu.Lock()
	a.rooms.remove(bytes, free)
	a.mu.Unlock()
	if brought.ID != "" {
		a.learn(w, brought)
	}
}

// free has images removed until there is room for a pull.
func (a *Admission) free(ctx context.Context, w want, disk *puller.Disk) (blocked string, err error) {
	a.mu.Lock()
	bytes := a.bytes(w) + a.rooms.outstanding(disk.Free) + a.reserve(disk)
	a.mu.Unlock()
	before := disk.Free
	after, blocked, err := a.opts.Free(ctx, bytes)
	if after != nil {
		a.mu.Lock()
		a.rooms.gain(after.Free - before)
		a.mu.Unlock()
	}
	return blocked, err
}

// refusal says why a pull is refused, with the figures.
func (a *Admission) refusal(w want, disk *puller.Disk, blocked string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	size := func(n int64) string { return units.HumanSize(float64(n)) }
	text := fmt.Sprintf("the engine's disk has no room for it: the pull needs about %s (%s to fetch, and that unpacked), and %s of %s are free",
		size(a.bytes(w)), size(w.fetch()), size(disk.Free), size(disk.Total))
	if other := a.rooms.outstanding(disk.Free); other > 0 {
		text += fmt.Sprintf(", of which other pulls need %s", size(other))
	}
	if reserve := a.reserve(disk); reserve > 0 {
		text += fmt.Sprintf(", of which %s are reserved (keep.reserve)", size(reserve))
	}
	if blocked != "" {
		text += "; " + blocked
	}
	return puller.Errorf(puller.ErrNoSpace, "%s", text)
}
