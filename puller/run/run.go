// Package run has the jobs that run an image's program in a container: once the image
// is proven, it creates the container, follows it to its end, and removes it.
package run

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/pull"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream/outputlog"
)

// Options are what runs are made with.
type Options struct {
	Context   context.Context // ends when the daemon does
	Engine    engines.Engine
	Transfers *transfer.Transfers
	Prover    *proof.Prover
	Pulls     *pull.Env
	// Instance tells this daemon's containers from others' (store.Store.Instance).
	Instance    func() string
	Concurrency int // containers at a time, at least 1
	// EngineTimeout is how long an engine that does not answer is waited for; 0 is
	// without limit.
	EngineTimeout time.Duration
	Outputs       *Outputs
	// Sync waits until what has changed is on disk, or could not be saved.
	Sync func()
	// Ended returns what is kept of a run that has ended, or nil. The error is the
	// store's.
	Ended func(id string) (*store.Run, error)
	Log   logrus.FieldLogger
	// Go starts a goroutine that the daemon waits for.
	Go func(func())
}

// Runs is what all runs of a daemon share. Its methods may be called from anywhere.
type Runs struct {
	o        Options
	slots    chan struct{} // a semaphore
	sweeping atomic.Bool   // a sweep is to come
}

// New returns what the runs of a daemon share.
func New(o Options) *Runs { return &Runs{o: o, slots: make(chan struct{}, max(1, o.Concurrency))} }

const (
	// stopGrace is how long a container that is to end has between SIGTERM and
	// SIGKILL, as docker stop has it.
	stopGrace = 10 * time.Second
	// stopLimit is how long the engine has to tell that a container it was to stop
	// has exited, after the grace.
	stopLimit = 10 * time.Second
	// removeLimit is how long an engine that does not answer is waited for to remove
	// a container before the job ends without that. It is removed later.
	removeLimit = time.Minute
)

// Run is the job.Work of a run. Its lock is taken before that of the job. Its methods
// may be called from anywhere.
type Run struct {
	runs    *Runs
	job     *job.Job
	request puller.RunRequest
	orphan  bool         // its credentials were not kept over a restart
	begun   bool         // it had begun before a restart
	revived bool         // it is made of its record
	was     puller.Phase // what it was at before the restart
	placed  bool         // it has a slot for as long as it is resumed; of resume's goroutine
	output  output

	mu      sync.Mutex
	wanted  puller.PullRequest // of the image, with its credentials until the job has ended
	pull    *pull.Pull         // of the image; nil while it is not looked for
	again   bool               // the image was pulled again, since it was gone
	image   *puller.Result     // proven to be there; a container sees to the rest
	name    string             // of the container; "" until it is to be created, in a run of an older Towline
	id      string             // of the container, once there is one
	running bool               // it was started
	exit    *engines.Exit      // once it has exited
	ending  error              // why it is to end before its program does
}

// New returns the work of a run's job.
func (s *Runs) New(j *job.Job, r puller.RunRequest, wanted puller.PullRequest) *Run {
	r.Credentials, r.Rules = puller.Credentials{}, nil
	return &Run{runs: s, job: j, output: output{job: j, outputs: s.o.Outputs}, request: r, wanted: wanted, name: containerName()}
}

// Restore returns the work of a run's job as its record has it.
func (s *Runs) Restore(j *job.Job, r store.Record) *Run {
	kept := r.Run
	w := &Run{
		runs: s, job: j, output: output{job: j, outputs: s.o.Outputs}, request: kept.Request, wanted: *r.Pull, orphan: r.Private, begun: r.Job.State == puller.StateActive,
		revived: true, was: r.Job.Phase, name: kept.Name, id: kept.Container, image: kept.Image, exit: kept.Exit,
	}
	if e := kept.Ending; e != nil {
		w.ending = puller.Errorf(e.Kind, "%s", e.Message)
	}
	w.output.reopen()
	return w
}

// HasImage reports whether the run's image was proven to be there.
func (r *Run) HasImage() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.image != nil
}

// containerName returns a new name for a run's container. Nobody can guess it, and no
// image can give it to its containers.
func containerName() string { return "towline-" + strings.ToLower(rand.Text()) }

// Begin implements job.Work.
func (r *Run) Begin() {
	r.job.StartTimer()
	if !r.revived {
		r.seek()
		return
	}
	if r.mayHaveRun() { // before others take its slot
		r.takeSlot()
	}
	r.runs.o.Go(container{r}.resume)
}

// seek has the image looked for, and pulled if it is not there.
func (r *Run) seek() {
	r.mu.Lock()
	p := pull.New(r.runs.o.Pulls, pull.Options{Job: r.job, Request: r.wanted, Orphan: r.orphan, Begun: r.begun, Done: r.contain})
	r.pull = p
	ending := r.ending
	r.mu.Unlock()
	switch {
	case ending != nil:
		r.job.Finish(puller.Result{}, ending)
	case !r.job.Ending():
		p.Begin()
	}
}

// contain has the program run in a container of the image that was proven.
func (r *Run) contain(image puller.Result, err error) {
	r.mu.Lock()
	if err == nil {
		err = r.ending
	}
	if err == nil {
		r.image = &image
	}
	p, credentials := r.pull, r.wanted.Credentials
	r.mu.Unlock()
	if err != nil {
		r.job.Finish(puller.Result{}, err)
		return
	}
	var v puller.Job
	p.Describe(&v)
	r.job.SetProgress(v.Progress, v.Timings)
	r.job.Hide(redact.Of(credentials))
	r.job.Touch()
	r.runs.o.Go(func() { container{r}.create(image) })
}

// enter moves the active job to a phase.
func (r *Run) enter(phase puller.Phase) {
	r.job.Enter(puller.StateActive, phase, r.job.View().Attempt)
}

// Leave has the run end with err before its program does: its container is stopped.
// Readers are told what it prints meanwhile.
func (r *Run) Leave(err error) bool {
	r.mu.Lock()
	if r.ending != nil || r.job.Ending() {
		r.mu.Unlock()
		return false
	}
	r.ending = err
	image, p, running, id := r.image, r.pull, r.running, r.id
	r.mu.Unlock()
	switch {
	case image == nil && p != nil:
		p.Leave(err)
	case image == nil:
		r.job.Finish(puller.Result{}, err)
	case !running:
		r.job.Touch()
		r.job.Abort()
	default:
		r.job.Touch()
		r.runs.o.Go(func() { container{r}.halt(id) })
	}
	return true
}

// Describe implements job.Work.
func (r *Run) Describe(v *puller.Job) {
	r.mu.Lock()
	p, image := r.pull, r.image
	r.mu.Unlock()
	if p != nil && image == nil {
		p.Describe(v)
	}
}

// Record implements job.Work.
func (r *Run) Record(to *store.Record, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := r.wanted
	wanted.Credentials, wanted.Rules = puller.Credentials{}, nil
	to.Pull, to.Run = &wanted, r.record()
	if ended { // nothing runs any more
		to.Run.Request = puller.RunRequest{Image: to.Run.Request.Image}
	}
}

// record returns what a restart needs of the run. The lock is held.
func (r *Run) record() *store.Run {
	kept := &store.Run{Request: r.request, Name: r.name, Container: r.id, Image: r.image, Exit: r.exit}
	if r.ending != nil {
		kept.Ending = puller.NewJobError(r.ending)
	}
	return kept
}

// kept is record for callers that do not hold the lock.
func (r *Run) kept() *store.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record()
}

// Settled implements job.Work.
func (r *Run) Settled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted.Credentials = puller.Credentials{} // nobody needs them any more
}

// mayHaveRun reports whether the container of a run that was revived was started
// before, as far as that is known.
func (r *Run) mayHaveRun() bool {
	return r.was == puller.PhaseRunning || r.was == puller.PhaseRemoving || r.output.mark != outputlog.Offsets{}
}

// takeSlot counts a run that was revived among those that run at a time, unless there
// are fewer slots now.
func (r *Run) takeSlot() {
	select {
	case r.runs.slots <- struct{}{}:
		r.placed = true
	default:
	}
}

// notice tells the job's readers something.
func (r *Run) notice(message string) { r.job.Notice(message, 0) }
