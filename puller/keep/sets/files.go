package sets

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

const (
	maxFiles = 1000
	// settleTime is how long a file must be unchanged before it is read, because it may
	// still be written to.
	settleTime = 200 * time.Millisecond
)

// files are the files of a directory that have sets. Only Run uses them, and Open before it.
type files struct {
	dir   string
	seen  map[string]*file // by path
	fault string           // of the directory
	first bool             // nothing was read yet
	again bool             // a set of a file was refused, which other sets decide
}

// file is a file as it was read last.
type file struct {
	info    os.FileInfo
	fault   string
	refused string // why the other sets do not allow its set
	// What its last good content said. A file that becomes bad changes nothing.
	good bool
	name string
	*definition
}

func newFiles(dir string) *files { return &files{dir: dir, seen: make(map[string]*file), first: true} }

// readFiles reads the files that have changed.
func (s *Sets) readFiles(ctx context.Context) {
	f := s.files
	if f.dir == "" {
		return
	}
	paths, err := f.list()
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	changed := f.first || f.again || fault != f.fault
	if fault != "" && fault != f.fault {
		s.o.Log.WithField("dir", f.dir).WithError(err).Error("the files of sets can't be read; the sets stay as they were")
	}
	f.fault = fault
	if err != nil {
		if changed {
			s.adopt(ctx)
		}
		return
	}
	for path := range f.seen {
		if !slices.Contains(paths, path) {
			delete(f.seen, path)
			changed = true
		}
	}
	for _, path := range paths {
		changed = s.readFile(ctx, path) || changed
	}
	f.first = false
	if changed {
		s.adopt(ctx)
	}
}

// list returns the paths of the files, sorted. There is none without the directory.
func (f *files) list() (paths []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml") {
			paths = append(paths, filepath.Join(f.dir, name))
		}
	}
	if err == nil && len(paths) > maxFiles {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "%d files; at most %d are read", len(paths), maxFiles)
	}
	return paths, err
}

// readFile reads a file if it has changed, and reports whether it has.
func (s *Sets) readFile(ctx context.Context, path string) bool {
	old := s.files.seen[path]
	info, err := os.Stat(path)
	if err == nil && old != nil && old.info != nil && sameFile(old.info, info) {
		return false
	}
	if err == nil && !s.files.first {
		if age := time.Since(info.ModTime()); age >= 0 && age < settleTime {
			return false // it is read the next time
		}
	}
	read := &file{info: info}
	if old != nil {
		read.good, read.name, read.definition = old.good, old.name, old.definition
	}
	if err == nil {
		var name string
		var d *definition
		if name, d, err = s.parseFile(ctx, path); err == nil {
			read.good, read.name, read.definition = true, name, d
		}
	}
	if err != nil {
		if puller.KindOf(err).Retryable() {
			read.info = nil // it is read again
		}
		if read.fault = err.Error(); old == nil || old.fault != read.fault {
			s.o.Log.WithField("file", path).WithError(err).Error("a file of a set can't be used; the other sets go on")
		}
	}
	s.files.seen[path] = read
	return true
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// adopt makes the sets those of the files, beside those that calls have made.
func (s *Sets) adopt(ctx context.Context) {
	s.saving.Lock()
	defer s.saving.Unlock()
	runs, err := s.runs()
	if err != nil {
		s.o.Log.WithError(err).Warn("the last refreshes of sets can't be read; sets of files that are new are refreshed now")
	}
	s.files.again = false
	var faults []keep.SetFault
	if s.files.fault != "" {
		faults = append(faults, keep.SetFault{File: s.files.dir, Error: s.files.fault})
	}
	wanted := make(map[string]string) // paths by name
	for _, path := range sortedPaths(s.files.seen) {
		f := s.files.seen[path]
		fault := f.fault
		if f.good {
			refused := ""
			if err := s.adoptFile(ctx, f, path, wanted, runs); err != nil {
				refused, s.files.again = err.Error(), true
			}
			if refused != "" && refused != f.refused {
				s.o.Log.WithFields(logrus.Fields{"file": path, "error": refused}).Error("a file of a set can't be used; the other sets go on")
			}
			f.refused = refused
			fault = cmp.Or(fault, refused)
		}
		if fault != "" {
			faults = append(faults, keep.SetFault{File: path, Error: fault})
		}
	}
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

func sortedPaths(seen map[string]*file) []string {
	paths := make([]string, 0, len(seen))
	for path := range seen {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// adoptFile makes the set of a file, unless it is there. saving is held.
func (s *Sets) adoptFile(ctx context.Context, f *file, path string, wanted map[string]string, runs map[string]runRecord) error {
	old := s.get(f.name)
	if err := notOfFleet(f.name); err != nil {
		return err
	}
	switch {
	case wanted[f.name] != "":
		return puller.Errorf(puller.ErrConflict, "name: the set %s comes from %s; give one of the two another name", f.name, wanted[f.name])
	case old != nil && old.source != keep.SetFromFile:
		return puller.Errorf(puller.ErrConflict, "name: a call has made a set %s; delete that one, or give this one another name", f.name)
	}
	wanted[f.name] = path
	if old != nil && old.fingerprint == f.fingerprint && old.file == path {
		return nil
	}
	if err := s.hasRoom(old, f.definition); err != nil {
		return err
	}
	release, err := s.o.Claims.Need(ctx, f.keys())
	if err != nil {
		return err
	}
	defer release()
	one := &set{name: f.name, source: keep.SetFromFile, file: path, changed: f.info.ModTime().UTC(), definition: f.definition}
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
