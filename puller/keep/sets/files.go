package sets

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/definition"
	"github.com/towline/towline/puller/keep/setfile"
)

// files make sets of the files of a directory. Only Run uses them, and Open before it;
// Faults may be called from anywhere.
type files struct {
	*setfile.Directory[*fileSet]
	claims    *claim.Claims
	refreshes *refreshes
	table     *table
	log       logrus.FieldLogger
	refused   map[string]string // why the other sets do not allow the set of a file, by path

	mu     sync.Mutex // a leaf
	faults []keep.SetFault
}

// fileSet is what a file says of its set.
type fileSet struct {
	name string
	*definition.Definition
}

// newFiles returns those of a directory, nil for none.
func newFiles(o Options, t *table, r *refreshes) *files {
	if o.Dir == "" {
		return nil
	}
	read := func(ctx context.Context, path string) (*fileSet, error) {
		f, err := setfile.Read(ctx, path, o.Compose)
		if err != nil {
			return nil, err
		}
		d, err := definition.Check(o.Service, o.Host, f.Name, f.SetRequest)
		return &fileSet{f.Name, d}, err
	}
	return &files{Directory: setfile.NewDirectory(o.Dir, o.Log, read), claims: o.Claims, refreshes: r, table: t, log: o.Log, refused: make(map[string]string)}
}

// Faults returns the files that can't be used, and why. Those of nil files are none.
func (f *files) Faults() []keep.SetFault {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.faults)
}

// update reads the files that have changed, and makes the sets those of the files. With nil
// files it does nothing.
func (f *files) update(ctx context.Context) {
	if f != nil && (f.Read(ctx) || len(f.refused) > 0) {
		f.adopt(ctx)
	}
}

// adopt makes the sets those of the files, beside those that calls have made.
func (f *files) adopt(ctx context.Context) {
	f.table.saving.Lock()
	defer f.table.saving.Unlock()
	kept, err := f.refreshes.runs.load()
	if err != nil {
		f.log.WithError(err).Warn("the last refreshes of sets can't be read; sets of files that are new are refreshed now")
	}
	var faults []keep.SetFault
	if fault := f.Fault(); fault != "" {
		faults = append(faults, keep.SetFault{File: f.Path(), Error: fault})
	}
	wanted := make(map[string]string)  // paths by name
	refused := make(map[string]string) // reasons by path
	for one := range f.All() {
		fault := one.Fault
		if one.Good != nil {
			if err := f.adoptFile(ctx, one, wanted, kept); err != nil {
				refused[one.Path] = err.Error()
				if refused[one.Path] != f.refused[one.Path] {
					f.log.WithFields(logrus.Fields{"file": one.Path, "error": err}).Error("a file of a set can't be used; the other sets go on")
				}
			}
			fault = cmp.Or(fault, refused[one.Path])
		}
		if fault != "" {
			faults = append(faults, keep.SetFault{File: one.Path, Error: fault})
		}
	}
	f.refused = refused
	for _, one := range f.table.sorted() {
		if one.source == keep.SetFromFile && wanted[one.name] == "" {
			f.refreshes.runs.forget(one.name)
			f.table.remove(one.name)
			f.log.WithField("set", one.name).Info("the file of a set is gone: the set is forgotten, and its images stay")
		}
	}
	f.mu.Lock()
	f.faults = faults
	f.mu.Unlock()
	f.refreshes.wake.nudge()
}

// adoptFile makes the set of a file, unless it is there. saving is held.
func (f *files) adoptFile(ctx context.Context, e *setfile.Entry[*fileSet], wanted map[string]string, kept map[string]runRecord) error {
	name, d := e.Good.name, e.Good.Definition
	old := f.table.get(name)
	if err := keep.CheckNotOfFleet(name); err != nil {
		return err
	}
	switch {
	case wanted[name] != "":
		return puller.Errorf(puller.ErrConflict, "name: the set %s comes from %s; give one of the two another name", name, wanted[name])
	case old != nil && old.source != keep.SetFromFile:
		return puller.Errorf(puller.ErrConflict, "name: a call has made a set %s; delete that one, or give this one another name", name)
	}
	wanted[name] = e.Path
	if old != nil && old.Fingerprint == d.Fingerprint && old.file == e.Path {
		return nil
	}
	if err := f.table.hasRoom(old, d); err != nil {
		return err
	}
	release, err := f.claims.Need(ctx, d.Keys())
	if err != nil {
		return err
	}
	defer release()
	one := &set{name: name, source: keep.SetFromFile, file: e.Path, changed: e.Changed.UTC(), Definition: d}
	if old != nil {
		f.table.succeed(one, old)
		return nil
	}
	f.refreshes.restore(one, kept)
	f.table.put(one)
	return nil
}
