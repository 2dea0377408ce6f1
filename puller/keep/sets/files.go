package sets

import (
	"cmp"
	"context"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/setfile"
)

// files are the files of a directory that have sets. Only Run uses them, and Open before it.
type files struct {
	*setfile.Directory[*fileSet]
	refused map[string]string // why the other sets do not allow the set of a file, by path
}

// fileSet is what a file says of its set.
type fileSet struct {
	name string
	*definition
}

// newFiles returns those of a directory, nil for none.
func (s *Sets) newFiles(dir string) *files {
	if dir == "" {
		return nil
	}
	return &files{refused: make(map[string]string), Directory: setfile.NewDirectory(dir, s.o.Log, func(ctx context.Context, path string) (*fileSet, error) {
		f, err := setfile.Read(ctx, path, s.o.Compose)
		if err != nil {
			return nil, err
		}
		d, err := s.check(f.Name, f.SetRequest)
		return &fileSet{f.Name, d}, err
	})}
}

// readFiles reads the files that have changed, and makes the sets those of the files.
func (s *Sets) readFiles(ctx context.Context) {
	if f := s.files; f != nil && (f.Read(ctx) || len(f.refused) > 0) {
		s.adopt(ctx)
	}
}

// adopt makes the sets those of the files, beside those that calls have made.
func (s *Sets) adopt(ctx context.Context) {
	s.saving.Lock()
	defer s.saving.Unlock()
	runs, err := s.runs()
	if err != nil {
		s.o.Log.WithError(err).Warn("the last refreshes of sets can't be read; sets of files that are new are refreshed now")
	}
	var faults []keep.SetFault
	if fault := s.files.Fault(); fault != "" {
		faults = append(faults, keep.SetFault{File: s.files.Path(), Error: fault})
	}
	wanted := make(map[string]string)  // paths by name
	refused := make(map[string]string) // reasons by path
	for f := range s.files.All() {
		fault := f.Fault
		if f.Good != nil {
			if err := s.adoptFile(ctx, f, wanted, runs); err != nil {
				refused[f.Path] = err.Error()
				if refused[f.Path] != s.files.refused[f.Path] {
					s.o.Log.WithFields(logrus.Fields{"file": f.Path, "error": err}).Error("a file of a set can't be used; the other sets go on")
				}
			}
			fault = cmp.Or(fault, refused[f.Path])
		}
		if fault != "" {
			faults = append(faults, keep.SetFault{File: f.Path, Error: fault})
		}
	}
	s.files.refused = refused
	for _, one := range s.sorted() {
		if one.source == keep.SetFromFile && wanted[one.name] == "" {
			s.forget(one.name)
			s.o.Log.WithField("set", one.name).Info("the file of a set is gone: the set is forgotten, and its images stay")
		}
	}
	s.mu.Lock()
	s.faults = faults
	s.mu.Unlock()
	s.nudge()
}

// adoptFile makes the set of a file, unless it is there. saving is held.
func (s *Sets) adoptFile(ctx context.Context, f *setfile.Entry[*fileSet], wanted map[string]string, runs map[string]runRecord) error {
	name, d := f.Good.name, f.Good.definition
	old := s.get(name)
	if err := notOfFleet(name); err != nil {
		return err
	}
	switch {
	case wanted[name] != "":
		return puller.Errorf(puller.ErrConflict, "name: the set %s comes from %s; give one of the two another name", name, wanted[name])
	case old != nil && old.source != keep.SetFromFile:
		return puller.Errorf(puller.ErrConflict, "name: a call has made a set %s; delete that one, or give this one another name", name)
	}
	wanted[name] = f.Path
	if old != nil && old.fingerprint == d.fingerprint && old.file == f.Path {
		return nil
	}
	if err := s.hasRoom(old, d); err != nil {
		return err
	}
	release, err := s.o.Claims.Need(ctx, d.keys())
	if err != nil {
		return err
	}
	defer release()
	one := &set{name: name, source: keep.SetFromFile, file: f.Path, changed: f.Changed.UTC(), definition: d}
	if old == nil {
		s.restore(one, runs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old == nil {
		s.put(one)
	} else {
		s.succeed(one, old)
	}
	return nil
}
