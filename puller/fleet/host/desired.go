package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// desired takes up what this host is to have. It is used by one goroutine of Host.Run at a time.
type desired struct {
	o     Options
	names fleet.Subjects
	table *table

	serial uint64 // of what this host is to have
	fault  string // what is wrong with that
}

var errNone = errors.New("there is no such record")

// resync reads what this host is to have, and reports whether it is newer than what it knows.
// An older one counts only where back says so: where the bucket was made anew.
func (d *desired) resync(ctx context.Context, back bool) (news bool, err error) {
	value, err := d.directGet(ctx, d.names.Desired(), d.o.Host)
	if errors.Is(err, errNone) {
		return false, nil // a fleet that has never heard of this host does not take away what it has
	}
	if err != nil {
		return false, err
	}
	return d.adopt(value, back), nil
}

// directGet reads the last value of a key (NATS ADR-31): it takes no consumer.
func (d *desired) directGet(ctx context.Context, bucket, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	m, err := d.o.Link.Conn().RequestWithContext(ctx, fleet.DirectGet(bucket, key), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("no controller of the fleet %s has made its buckets yet", d.o.Fleet)
	case err != nil:
		return nil, fmt.Errorf("read from the bucket %s: %w", bucket, err)
	}
	switch m.Header.Get("Status") {
	case "":
	case "404":
		return nil, errNone
	default:
		return nil, fmt.Errorf("read from the bucket %s: %s %s", bucket, m.Header.Get("Status"), m.Header.Get("Description"))
	}
	if m.Header.Get("Nats-Subject") != fleet.Key(bucket, key) {
		return nil, fmt.Errorf("read from the bucket %s: the answer is of another key", bucket)
	}
	if m.Header.Get("KV-Operation") != "" {
		return nil, errNone
	}
	return m.Data, nil
}

// adopt takes up what this host is to have.
func (d *desired) adopt(value []byte, back bool) (news bool) {
	record, err := fleet.ParseDesired(value)
	var format fleet.ErrFormat
	if errors.As(err, &format) {
		d.refuse(value, format)
		return true
	}
	if err != nil {
		if text := err.Error(); text != d.fault {
			d.fault = text
			d.o.Log.WithError(err).Error("what this host is to have can't be read; it keeps what it has")
		}
		return false
	}
	if record.Serial == d.serial || record.Serial < d.serial && !back {
		return false
	}
	d.fault, d.serial = "", record.Serial
	if err := d.o.Records.Save(recordKind, map[string][]byte{d.o.Fleet: value}); err != nil {
		d.o.Log.WithError(err).Warn("what this host is to have could not be kept for a restart")
	}
	d.take(record)
	return true
}

// refuse reports for each set of a record that a later Towline has written that it is refused.
func (d *desired) refuse(value []byte, format fleet.ErrFormat) {
	var names struct {
		Sets []struct {
			Set        string `json:"set"`
			Generation uint64 `json:"generation"`
		} `json:"sets"`
	}
	if text := format.Error(); text != d.fault {
		d.fault = text
		d.o.Log.WithError(format).Error("what this host is to have can't be read; it keeps what it has")
	}
	if len(value) > fleet.MaxDesired || json.Unmarshal(value, &names) != nil {
		return
	}
	refused := make(map[string]*fleet.Report)
	for n, s := range names.Sets {
		if fleet.CheckSetName(s.Set) != nil || n >= fleet.MaxSets {
			continue
		}
		refused[s.Set] = &fleet.Report{Format: fleet.Format, Generation: s.Generation, State: fleet.StateRefused, Error: format.Error(), Kind: puller.ErrForbidden}
	}
	d.table.refuse(refused)
	d.table.kick()
}

// restore takes up what this host was to have before a restart.
func (d *desired) restore() {
	values, err := d.o.Records.Load(recordKind)
	if err != nil {
		d.o.Log.WithError(err).Warn("what this host was to have can't be read; it keeps the sets that it has")
		return
	}
	value := values[d.o.Fleet]
	if value == nil {
		return
	}
	record, err := fleet.ParseDesired(value)
	if err != nil {
		d.o.Log.WithError(err).Warn("what this host was to have can't be read; it keeps the sets that it has")
		return
	}
	d.take(record)
}

// take makes sets of this host of what it is to have.
func (d *desired) take(record fleet.Desired) {
	wanted, gone := d.table.want(record)
	d.o.Groups.only(wanted)
	for _, name := range gone {
		d.drop(name)
	}
	// A set of the fleet that nothing is known of was left by a record that was lost.
	all, _ := d.o.Sets.Sets()
	for _, s := range all {
		if name, ok := ofFleet(s); ok && !wanted[name] && !slices.Contains(gone, name) {
			d.drop(name)
		}
	}
	d.table.kick()
}

// drop forgets a set. Its images stay.
func (d *desired) drop(name string) {
	err := d.o.Sets.DeleteOfFleet(keep.FleetPrefix + name)
	switch {
	case err == nil:
		d.o.Log.WithField("set", name).Info("the fleet has no such set for this host any more; its images stay")
	case puller.KindOf(err) != puller.ErrNotFound:
		d.o.Log.WithField("set", name).WithError(err).Error("a set that the fleet has no more can't be forgotten")
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
