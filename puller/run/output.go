package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/outputlog"
)

// output is what a run's container prints, on its way to the job's readers.
type output struct {
	job     *job.Job
	outputs *Outputs

	mu       sync.Mutex
	log      *outputlog.Log
	mark     outputlog.Offsets // bytes told, of each stream
	skip     outputlog.Offsets // bytes to be left out, since they have been told
	decoders [2]outputlog.TextDecoder
	fault    error // why the last of it could not be kept
}

// open makes a log for what the container is going to print, if there is none from
// before a restart.
func (o *output) open() {
	if o.log != nil {
		return
	}
	err := os.MkdirAll(o.outputs.dir, 0o700)
	var log *outputlog.Log
	if err == nil {
		log, err = outputlog.Create(o.outputs.path(o.job.ID()), o.outputs.each)
	}
	if err != nil {
		o.notice(fmt.Sprintf("what the program prints can't be kept: %v", err))
		o.fail(err)
		return
	}
	o.set(log)
}

// reopen goes on with the log from before a restart.
func (o *output) reopen() {
	log, err := outputlog.Open(o.outputs.path(o.job.ID()), o.outputs.each)
	switch {
	case err == nil:
		o.set(log)
	case !errors.Is(err, fs.ErrNotExist):
		o.outputs.log.WithError(err).WithField("job", o.job.ID()).Error("the output of a run can't be read")
	}
}

func (o *output) set(log *outputlog.Log) {
	id := o.job.ID()
	o.log, o.mark = log, log.Offsets()
	o.outputs.grow(id, log.Size())
	o.job.Topic().SetOutput(log, func() stream.Frame { return puller.MissedFrame(id) })
}

func (o *output) notice(message string) { o.job.Notice(message, 0) }

// reset forgets the log: the run begins anew.
func (o *output) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log = nil
}

// printer returns what the engine is to call for what the container prints, from the
// first byte on. What has been told is not told again.
func (o *output) printer() func(puller.Output, []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.skip, o.decoders = o.mark, [2]outputlog.TextDecoder{}
	return func(s puller.Output, b []byte) {
		o.mu.Lock()
		defer o.mu.Unlock()
		i := index(s)
		known := min(o.skip[i], uint64(len(b)))
		o.skip[i] -= known
		if b = b[known:]; len(b) > 0 {
			text, n, ok := o.decoders[i].Decode(b)
			o.print(s, text, n, ok)
		}
	}
}

// print tells readers a piece of output. The lock is held.
func (o *output) print(s puller.Output, text outputlog.Text, n int, ok bool) {
	id := o.job.ID()
	if !ok || o.log == nil {
		return
	}
	o.mark[index(s)] += uint64(n)
	err := o.job.Topic().AppendOutput(o.mark, func(seq uint64) stream.Frame {
		return puller.Event{Seq: seq, Time: time.Now().UTC(), Type: "log", Job: id, Stream: s, Text: &text}.Frame()
	})
	if err != nil && o.fault == nil {
		o.notice(fmt.Sprintf("some of what the program prints can't be kept: %v", err))
	}
	o.fault = err
	o.outputs.grow(id, o.log.Size())
}

var errKeptLess = errors.New("the engine kept less than had been told")

// close tells what was held back. Nothing is printed after it.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range []puller.Output{puller.Stdout, puller.Stderr} {
		text, n, ok := o.decoders[index(s)].Flush()
		o.print(s, text, n, ok)
	}
	if o.skip != (outputlog.Offsets{}) {
		// What has come since may have been taken for what was told before.
		o.notice("some of what the program printed last may be missing: the engine kept less of its output than had been told")
		o.fault = errKeptLess
	}
	if o.log != nil {
		o.log.Close()
		o.outputs.end(o.job.ID())
	}
}

func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fault = err
}

// truncated reports whether some of the output is not kept any more.
func (o *output) truncated() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fault != nil || o.log != nil && !o.log.Complete()
}

// Show adds to a topic what a run that has ended had printed, or that it is not kept.
func (o *Outputs) Show(topic *stream.Topic, r *store.Record) {
	id := r.Job.ID
	log, err := outputlog.OpenReadOnly(o.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		log, err = removedLog(r)
	}
	if err == nil {
		topic.SetOutput(log, func() stream.Frame { return puller.MissedFrame(id) })
	}
}

// removedLog stands for the output of a run that was removed. The error is
// fs.ErrNotExist where its program did not run.
func removedLog(r *store.Record) (*outputlog.Log, error) {
	running := func(e puller.Event) bool { return e.Phase == puller.PhaseRunning }
	if i := slices.IndexFunc(r.Events, running); i >= 0 && i+1 < len(r.Events) {
		return outputlog.Removed(r.Events[i+1].Seq), nil
	}
	return nil, fs.ErrNotExist
}

// index is a stream's place in a mark.
func index(s puller.Output) int {
	if s == puller.Stderr {
		return 1
	}
	return 0
}
