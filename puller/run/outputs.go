package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/outputlog"
)

// Outputs knows how much output of all runs is on disk, and keeps it within a limit:
// above it, the output of the runs that ended first is removed. Its methods may be
// called from anywhere.
type Outputs struct {
	dir   string
	each  int64 // bytes of one run
	limit int64 // bytes of all, 0 for none
	log   logrus.FieldLogger

	mu    sync.Mutex
	known bool             // what is on disk could be found out
	sizes map[string]int64 // by job
	live  map[string]bool  // the jobs that go on
	ended []string         // the others, in the order of their ends, and some that are gone
	total int64            // of sizes
	going int64            // the same, of jobs that go on
}

// NewOutputs returns what knows of the output in a directory: at most each bytes of one
// run and, unless it is 0, total bytes of all.
func NewOutputs(dir string, each, total int64, log logrus.FieldLogger) *Outputs {
	return &Outputs{dir: dir, each: each, limit: total, log: log, sizes: make(map[string]int64), live: make(map[string]bool)}
}

// path returns where a run's output is kept.
func (o *Outputs) path(id string) string { return filepath.Join(o.dir, id) }

// Scan finds what an earlier process has left. It is called before anything else.
func (o *Outputs) Scan() {
	files, err := os.ReadDir(o.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.log.WithError(err).Warn("the output of runs can't be listed; what it takes is not known")
		return
	}
	o.known = true
	written := make(map[string]time.Time)
	for _, f := range files {
		id, _, _ := strings.Cut(f.Name(), ".")
		info, err := f.Info()
		if err != nil {
			continue // it has gone
		}
		if o.sizes[id] += info.Size(); info.ModTime().After(written[id]) {
			written[id] = info.ModTime()
		}
		o.total += info.Size()
	}
	for id := range o.sizes {
		o.ended = append(o.ended, id)
	}
	slices.SortFunc(o.ended, func(a, b string) int { return written[a].Compare(written[b]) })
}

// Begin holds what Scan has found to the limit, once it is known which runs go on.
func (o *Outputs) Begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trim()
}

// grow notes how large the output of a run that goes on has become.
func (o *Outputs) grow(id string, size int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.live[id] {
		o.live[id] = true
		o.going += o.sizes[id]
	}
	more := size - o.sizes[id]
	o.sizes[id], o.total, o.going = size, o.total+more, o.going+more
	o.trim()
}

// end notes that a run has ended.
func (o *Outputs) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live[id] {
		delete(o.live, id)
		o.going -= o.sizes[id]
		o.ended = append(o.ended, id)
		o.trim()
	}
}

// forget removes the output of a run that is not known any more.
func (o *Outputs) forget(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total -= o.sizes[id]
	delete(o.sizes, id)
	if len(o.ended) > 2*len(o.sizes)+100 {
		o.ended = slices.DeleteFunc(o.ended, func(id string) bool { _, there := o.sizes[id]; return !there || o.live[id] })
	}
	return outputlog.Remove(o.path(id))
}

// trim removes what is above the limit, as far as it is not of runs that go on. The
// lock is held.
func (o *Outputs) trim() {
	if o.limit <= 0 || o.total <= o.limit {
		return
	}
	var left []string // that take nothing
	done := 0
	for _, id := range o.ended {
		if o.total <= o.limit {
			break
		}
		done++
		size, there := o.sizes[id]
		switch {
		case !there || o.live[id]:
			continue
		case size == 0:
			left = append(left, id)
			continue
		}
		if err := outputlog.Remove(o.path(id)); err != nil {
			o.log.WithError(err).WithField("job", id).Warn("the output of an old run could not be removed")
		}
		delete(o.sizes, id)
		o.total -= size
	}
	o.ended = append(left, o.ended[done:]...)
}

// Check returns ErrOverloaded where what runs that go on have printed is all that may be
// kept.
func (o *Outputs) Check() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.limit <= 0 || o.going < o.limit {
		return nil
	}
	return puller.Overloaded("runs that go on have printed %d bytes, and of all runs at most %d are kept", o.going, o.limit)
}

// Kept returns a job as it is told: the result of a run whose output was removed says
// that it is truncated.
func (o *Outputs) Kept(v puller.Job) puller.Job {
	if v.Kind != puller.JobRun || v.Result == nil || v.Result.Truncated {
		return v
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, there := o.sizes[v.ID]; !there && o.known {
		result := *v.Result
		result.Truncated = true
		v.Result = &result
	}
	return v
}

// Drop removes the output of runs for which known returns false.
func (o *Outputs) Drop(known func(id string) bool) {
	files, err := os.ReadDir(o.dir)
	if err != nil {
		return // there have been no runs
	}
	dropped := ""
	for _, f := range files {
		id, _, _ := strings.Cut(f.Name(), ".")
		if id == dropped || known(id) {
			continue
		}
		dropped = id
		if err := o.forget(id); err != nil {
			o.log.WithError(err).Warn("the output of an old run could not be removed")
		}
	}
}
