package setfile

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
)

const (
	maxFiles = 1000
	// settleTime is how long a file must be unchanged before it is read, because it may
	// still be written to.
	settleTime = 200 * time.Millisecond
)

// Directory has the files of a directory whose names end in .yaml or .yml, each with what its
// last good content says: a T. It is not safe for concurrent use.
type Directory[T any] struct {
	path  string
	log   logrus.FieldLogger
	read  func(ctx context.Context, path string) (T, error)
	seen  map[string]*Entry[T] // by path
	fault string
	first bool // nothing was read yet
}

// Entry is a file as it was read last.
type Entry[T any] struct {
	Path string
	// Good is what its last good content says, T's zero value for none. A file that becomes bad
	// changes nothing.
	Good T
	// Changed is when the content was written that Good is of.
	Changed time.Time
	Fault   string // why the present content can't be used

	info os.FileInfo // nil if it is to be read again
}

// NewDirectory returns the files of a path, of which none is read yet. read reads one.
func NewDirectory[T any](path string, log logrus.FieldLogger, read func(ctx context.Context, path string) (T, error)) *Directory[T] {
	return &Directory[T]{path: path, log: log, read: read, seen: make(map[string]*Entry[T]), first: true}
}

// Path is where the files are.
func (d *Directory[T]) Path() string { return d.path }

// Fault says why the files can't be listed, "" where they can. Those that are known stay.
func (d *Directory[T]) Fault() string { return d.fault }

// All returns the files by their paths.
func (d *Directory[T]) All() iter.Seq[*Entry[T]] {
	return func(yield func(*Entry[T]) bool) {
		for _, path := range slices.Sorted(maps.Keys(d.seen)) {
			if !yield(d.seen[path]) {
				return
			}
		}
	}
}

// Read reads the files that have changed, and reports whether any has, or has gone, or the
// fault has changed. The first time, it reports true. Faults are logged once.
func (d *Directory[T]) Read(ctx context.Context) (changed bool) {
	paths, err := d.list()
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	changed = d.first || fault != d.fault
	if fault != "" && fault != d.fault {
		d.log.WithField("dir", d.path).WithError(err).Error("the files of sets can't be read; the sets stay as they were")
	}
	d.fault = fault
	if err != nil {
		return changed
	}
	for path := range d.seen {
		if !slices.Contains(paths, path) {
			delete(d.seen, path)
			changed = true
		}
	}
	for _, path := range paths {
		changed = d.readFile(ctx, path) || changed
	}
	d.first = false
	return changed
}

// list returns the paths of the files, sorted. There is none without the directory.
func (d *Directory[T]) list() (paths []string, err error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml") {
			paths = append(paths, filepath.Join(d.path, name))
		}
	}
	if err == nil && len(paths) > maxFiles {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "%d files; at most %d are read", len(paths), maxFiles)
	}
	return paths, err
}

// readFile reads a file if it has changed, and reports whether it has.
func (d *Directory[T]) readFile(ctx context.Context, path string) bool {
	old := d.seen[path]
	info, err := os.Stat(path)
	if err == nil && old != nil && old.info != nil && sameFile(old.info, info) {
		return false
	}
	if err == nil && !d.first {
		if age := time.Since(info.ModTime()); age >= 0 && age < settleTime {
			return false // it is read the next time
		}
	}
	one := &Entry[T]{Path: path, info: info}
	if old != nil {
		one.Good, one.Changed = old.Good, old.Changed
	}
	if err == nil {
		var good T
		if good, err = d.read(ctx, path); err == nil {
			one.Good, one.Changed = good, info.ModTime()
		}
	}
	if err != nil {
		if puller.KindOf(err).Retryable() {
			one.info = nil // it is read again
		}
		if one.Fault = err.Error(); old == nil || old.Fault != one.Fault {
			d.log.WithField("file", path).WithError(err).Error("a file of a set can't be used; the other sets go on")
		}
	}
	d.seen[path] = one
	return true
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}
