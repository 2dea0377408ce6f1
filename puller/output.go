package puller

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/towline/towline/stream"
)

// output is what a run's container prints, on its way to the job's readers.
type output struct {
	mu      sync.Mutex
	tape    *stream.Tape
	mark    stream.Mark // bytes told, of each stream
	skip    stream.Mark // bytes to be left out, since they have been told
	tellers [2]stream.TextDecoder
	fault   error // why the last of it could not be kept
}

// Index is a stream's place in a mark.
func (s Output) Index() int {
	if s == Stderr {
		return 1
	}
	return 0
}

// openOutput makes a place for what a run's container is going to print, if it
// has none from before a restart.
func (p *Puller) openOutput(j *job) {
	if j.run.output.tape != nil {
		return
	}
	err := os.MkdirAll(p.opts.OutputDir, 0o700)
	var tape *stream.Tape
	if err == nil {
		tape, err = stream.CreateTape(p.outputs.path(j.id), p.opts.OutputLimit)
	}
	if err != nil {
		p.tell(j, fmt.Sprintf("what the program prints can't be kept: %v", err))
		j.run.output.fail(err)
		return
	}
	p.playLive(j, tape)
}

// reopenOutput goes on with what a run's container had printed before a
// restart.
func (p *Puller) reopenOutput(j *job) {
	tape, err := stream.OpenTape(p.outputs.path(j.id), p.opts.OutputLimit)
	switch {
	case err == nil:
		p.playLive(j, tape)
	case !errors.Is(err, fs.ErrNotExist):
		p.log.WithError(err).WithField("job", j.id).Error("the output of a run can't be read")
	}
}

func (p *Puller) playLive(j *job, tape *stream.Tape) {
	o := &j.run.output
	o.tape, o.mark = tape, tape.Mark()
	p.outputs.grow(j.id, tape.Size())
	j.topic.SetOutput(tape, func() stream.Frame { return MissedFrame(j.id) })
}

// printer returns what the engine is to call for what a run's container prints,
// from the first byte on. What has been told is not told again.
func (p *Puller) printer(j *job) func(Output, []byte) {
	o := &j.run.output
	o.mu.Lock()
	defer o.mu.Unlock()
	o.skip, o.tellers = o.mark, [2]stream.TextDecoder{}
	return func(s Output, b []byte) {
		o.mu.Lock()
		defer o.mu.Unlock()
		i := s.Index()
		known := min(o.skip[i], uint64(len(b)))
		o.skip[i] -= known
		if b = b[known:]; len(b) > 0 {
			text, n, ok := o.tellers[i].Tell(b)
			p.print(j, s, text, n, ok)
		}
	}
}

// print tells a piece of output. o.mu is held.
func (p *Puller) print(j *job, s Output, text stream.Text, n int, ok bool) {
	o := &j.run.output
	if !ok || o.tape == nil {
		return
	}
	o.mark[s.Index()] += uint64(n)
	err := j.topic.AppendOutput(o.mark, func(seq uint64) stream.Frame { return LogEvent(seq, j.id, s, text).Frame() })
	if err != nil && o.fault == nil {
		p.tell(j, fmt.Sprintf("some of what the program prints can't be kept: %v", err))
	}
	o.fault = err
	p.outputs.grow(j.id, o.tape.Size())
}

var errKeptLess = errors.New("the engine kept less than had been told")

// closeOutput tells what was held back. Nothing is printed after it.
func (p *Puller) closeOutput(j *job) {
	o := &j.run.output
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range []Output{Stdout, Stderr} {
		text, n, ok := o.tellers[s.Index()].Flush()
		p.print(j, s, text, n, ok)
	}
	if o.skip != (stream.Mark{}) {
		// What has come since may have been taken for what was told before.
		p.tell(j, "some of what the program printed last may be missing: the engine kept less of its output than had been told")
		o.fault = errKeptLess
	}
	if o.tape != nil {
		o.tape.Close()
		p.outputs.end(j.id)
	}
}

func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fault = err
}

// truncated reports whether some of a run's output is not kept any more.
func (o *output) truncated() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fault != nil || o.tape != nil && !o.tape.Whole()
}

// play has a topic tell what a run that has ended had printed, or that it is not
// kept.
func (p *Puller) play(topic *stream.Topic, r *Record) {
	id := r.Job.ID
	tape, err := stream.ReadTape(p.outputs.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		tape, err = r.lostTape()
	}
	if err == nil {
		topic.SetOutput(tape, func() stream.Frame { return MissedFrame(id) })
	}
}

// lostTape stands for the output of a run that was removed. The error is
// fs.ErrNotExist where its program did not run.
func (r *Record) lostTape() (*stream.Tape, error) {
	running := func(e Event) bool { return e.Phase == PhaseRunning }
	if i := slices.IndexFunc(r.Events, running); i >= 0 && i+1 < len(r.Events) {
		return stream.LostTape(r.Events[i+1].Seq), nil
	}
	return nil, fs.ErrNotExist
}

// dropOutputs removes the output of runs that are not known any more.
func (p *Puller) dropOutputs() {
	files, err := os.ReadDir(p.opts.OutputDir)
	if err != nil {
		return // there have been no runs
	}
	dropped := ""
	for _, f := range files {
		id, _, _ := strings.Cut(f.Name(), ".")
		if id == dropped || p.live(id) != nil {
			continue
		}
		if _, err := p.store.Record(id); KindOf(err) == ErrNotFound {
			dropped = id
			if err := p.outputs.forget(id); err != nil {
				p.log.WithError(err).Warn("the output of an old run could not be removed")
			}
		}
	}
}
