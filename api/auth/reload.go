package auth

import (
	"os"
	"sync"
	"time"
)

const (
	// lookEvery is how often files are looked at, at most.
	lookEvery = 750 * time.Millisecond
	// settleTime is how long a file must be unchanged before it is read, because it
	// may still be written to. Together with lookEvery it is less than a second.
	settleTime = 200 * time.Millisecond
)

// Reloaded is a value that is read from files, and read again after a change of
// them. It may be used from several goroutines.
type Reloaded[T any] struct {
	read   func(old T) (T, error)
	failed func(error)
	paths  []string

	mu     sync.Mutex
	value  T
	seen   []os.FileInfo // of the files that were read; nil for a missing one
	looked time.Time
}

// Load reads a value. read gets the value before, at first the zero value. Now calls
// failed with the error of a later read, once for each change. Empty paths are left
// out.
func Load[T any](read func(old T) (T, error), failed func(error), paths ...string) (*Reloaded[T], error) {
	r := &Reloaded[T]{read: read, failed: failed, looked: time.Now()}
	for _, path := range paths {
		if path != "" {
			r.paths = append(r.paths, path)
		}
	}
	seen, settled := r.look(r.looked)
	if settled {
		r.seen = seen // else they are read once more
	}
	var err error
	r.value, err = read(r.value)
	return r, err
}

// Now returns the value as the files have it, or had it about a second ago. It keeps
// the old value if the files can't be read.
func (r *Reloaded[T]) Now() T {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if d := now.Sub(r.looked); d >= 0 && d < lookEvery {
		return r.value
	}
	r.looked = now
	seen, settled := r.look(now)
	switch {
	case sameFiles(seen, r.seen):
		return r.value
	case !settled:
		r.looked = now.Add(settleTime - lookEvery)
		return r.value
	}
	r.seen = seen
	value, err := r.read(r.value)
	if err != nil {
		r.failed(err)
		return r.value
	}
	r.value = value
	return value
}

// look looks at the files. settled is false if one of them was just written to.
func (r *Reloaded[T]) look(now time.Time) (seen []os.FileInfo, settled bool) {
	settled = true
	for _, path := range r.paths {
		info, err := os.Stat(path)
		if err != nil {
			seen = append(seen, nil)
			continue
		}
		seen = append(seen, info)
		if age := now.Sub(info.ModTime()); age >= 0 && age < settleTime {
			settled = false
		}
	}
	return seen, settled
}

func sameFiles(a, b []os.FileInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || a[i].Mode() != b[i].Mode() {
			return false
		}
	}
	return true
}
