package host

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// resync reads what this host is to have, and reports whether it is newer than what it knows.
// An older one counts only where back says so: where the bucket was made anew.
func (h *Host) resync(ctx context.Context, back bool) (news bool, err error) {
	value, err := h.directGet(ctx, h.names.Desired(), h.o.Host)
	if errors.Is(err, errNone) {
		return false, nil // a fleet that has never heard of this host does not take away what it has
	}
	if err != nil {
		return false, err
	}
	return h.adopt(value, back), nil
}

// adopt takes up what this host is to have.
func (h *Host) adopt(value []byte, back bool) (news bool) {
	d, err := fleet.ParseDesired(value)
	var format fleet.ErrFormat
	if errors.As(err, &format) {
		h.refuse(value, format)
		return true
	}
	if err != nil {
		if text := err.Error(); text != h.fault {
			h.fault = text
			h.o.Log.WithError(err).Error("what this host is to have can't be read; it keeps what it has")
		}
		return false
	}
	if d.Serial == h.serial || d.Serial < h.serial && !back {
		return false
	}
	h.fault, h.serial = "", d.Serial
	if err := h.o.Records.Save(recordKind, map[string][]byte{h.o.Fleet: value}); err != nil {
		h.o.Log.WithError(err).Warn("what this host is to have could not be kept for a restart")
	}
	h.take(d)
	return true
}

// refuse reports for each set of a record that a later Towline has written that it is refused.
func (h *Host) refuse(value []byte, format fleet.ErrFormat) {
	var names struct {
		Sets []struct {
			Set        string `json:"set"`
			Generation uint64 `json:"generation"`
		} `json:"sets"`
	}
	if text := format.Error(); text != h.fault {
		h.fault = text
		h.o.Log.WithError(format).Error("what this host is to have can't be read; it keeps what it has")
	}
	if len(value) > fleet.MaxDesired || json.Unmarshal(value, &names) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for n, s := range names.Sets {
		if fleet.CheckSetName(s.Set) != nil || n >= fleet.MaxSets {
			continue
		}
		l := h.sets[s.Set]
		if l == nil {
			l = &local{}
			h.sets[s.Set] = l
		}
		l.refused = &fleet.Report{Format: fleet.Format, Generation: s.Generation, State: fleet.StateRefused, Error: format.Error(), Kind: puller.ErrForbidden}
	}
	h.Kick()
}

// restore takes up what this host was to have before a restart.
func (h *Host) restore() {
	values, err := h.o.Records.Load(recordKind)
	if err != nil {
		h.o.Log.WithError(err).Warn("what this host was to have can't be read; it keeps the sets that it has")
		return
	}
	value := values[h.o.Fleet]
	if value == nil {
		return
	}
	d, err := fleet.ParseDesired(value)
	if err != nil {
		h.o.Log.WithError(err).Warn("what this host was to have can't be read; it keeps the sets that it has")
		return
	}
	h.take(d)
}

// take makes sets of this host of what it is to have.
func (h *Host) take(d fleet.Desired) {
	h.mu.Lock()
	wanted := make(map[string]bool)
	for _, s := range d.Sets {
		wanted[s.Set] = true
		l := h.sets[s.Set]
		if l == nil {
			l = &local{}
			h.sets[s.Set] = l
		}
		l.want(s)
	}
	gone := slices.DeleteFunc(slices.Sorted(maps.Keys(h.sets)), func(name string) bool { return wanted[name] })
	for _, name := range gone {
		delete(h.sets, name)
	}
	h.mu.Unlock()
	h.o.Groups.only(wanted)
	for _, name := range gone {
		h.drop(name)
	}
	// A set of the fleet that nothing is known of was left by a record that was lost.
	all, _ := h.o.Sets.Sets()
	for _, s := range all {
		if name, ok := ofFleet(s); ok && !wanted[name] && !slices.Contains(gone, name) {
			h.drop(name)
		}
	}
	h.Kick()
}

// drop forgets a set. Its images stay.
func (h *Host) drop(name string) {
	err := h.o.Sets.DeleteOfFleet(keep.FleetPrefix + name)
	switch {
	case err == nil:
		h.o.Log.WithField("set", name).Info("the fleet has no such set for this host any more; its images stay")
	case puller.KindOf(err) != puller.ErrNotFound:
		h.o.Log.WithField("set", name).WithError(err).Error("a set that the fleet has no more can't be forgotten")
	}
}

// Leave forgets the sets of a fleet in which this host is no more. Their images stay.
func Leave(s Sets, log logrus.FieldLogger) {
	all, _ := s.Sets()
	for _, one := range all {
		if name, ok := ofFleet(one); ok {
			if err := s.DeleteOfFleet(one.Name); err != nil {
				log.WithField("set", name).WithError(err).Error("a set of a fleet in which this host is no more can't be forgotten")
				continue
			}
			log.WithField("set", name).Info("this host is in no fleet any more: a set of it is forgotten, and its images stay")
		}
	}
}
