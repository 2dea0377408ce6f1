package puller

import (
	"fmt"
	"time"
)

// amount is how many jobs there are, and how many bytes their requests have.
type amount struct {
	jobs  int
	bytes int64
}

// What all callers together may have queued or active.
const (
	maxUnended = 20_000
	// maxUnendedBytes bounds the requests of those jobs. They are in memory, which
	// the garbage collector lets become about twice as much, and in the store.
	maxUnendedBytes = 128 << 20
)

// imageBytes is what counts for each image of a prewarm beside its request: until
// the prewarm ends, it is known what became of the image.
const imageBytes = 1 << 10

// Bytes returns the size of a request.
func (r *PullRequest) Bytes() int64 {
	return int64(len(r.Image) + len(r.Platform) + len(r.IdempotencyKey))
}

func (r *RunRequest) Bytes() int64 {
	n := len(r.Workdir) + len(r.User)
	for _, list := range [][]string{r.Cmd, r.Entrypoint} {
		for _, s := range list {
			n += len(s)
		}
	}
	for name, value := range r.Env {
		n += len(name) + len(value)
	}
	return int64(n)
}

func SkippedBytes(all []Skipped) (n int64) {
	for _, s := range all {
		n += int64(len(s.Service) + len(s.Reason))
	}
	return n
}

// count returns what a job counts for its caller until it ends: a prewarm with so
// many images and these services, or any other job.
func (j *job) count(images int, skipped []Skipped) amount {
	a := amount{1, j.request.Bytes() + int64(images)*imageBytes + SkippedBytes(skipped)}
	if j.run != nil {
		a.bytes += j.run.request.Bytes()
	}
	return a
}

// askLater is when a caller may ask again who has as much as it may have.
const askLater = 5 * time.Second

// checkBudget returns why a caller may not have more jobs, nil if it may. The
// admission lock is held, here and below.
func (p *Puller) checkBudget(caller string, jobs []*job) error {
	if jobs[0].run != nil {
		if err := p.outputs.check(); err != nil {
			return err
		}
	}
	var more amount
	for _, j := range jobs {
		more = more.plus(j.counted, 1)
	}
	most, held := amount{p.opts.MaxPerCaller, p.opts.MaxBytesPerCaller}, p.held[caller]
	switch {
	case most.jobs > 0 && more.jobs > most.jobs:
		return Errorf(ErrInvalidRequest, "images: with its prewarm they are %d jobs, and one caller may have %d; ask for fewer", more.jobs, most.jobs)
	case most.bytes > 0 && more.bytes > most.bytes:
		return Errorf(ErrInvalidRequest, "body: it counts as %d bytes, and the requests of one caller's jobs may have %d together; ask for less at a time", more.bytes, most.bytes)
	case p.unended.jobs+more.jobs > maxUnended:
		return errHeld("%d jobs are queued or active, and at most %d may be", p.unended.jobs, maxUnended)
	case p.unended.bytes+more.bytes > maxUnendedBytes:
		return errHeld("the requests of jobs that are queued or active have %d bytes; with this one they would have %d, and at most %d may be", p.unended.bytes, p.unended.bytes+more.bytes, int64(maxUnendedBytes))
	case most.jobs > 0 && held.jobs+more.jobs > most.jobs:
		return errHeld("%d of the caller's jobs are queued or active, and at most %d may be", held.jobs, most.jobs)
	case most.bytes > 0 && held.bytes+more.bytes > most.bytes:
		return errHeld("the requests of the caller's jobs that are queued or active have %d bytes; with this one they would have %d, and at most %d may be", held.bytes, held.bytes+more.bytes, most.bytes)
	}
	return nil
}

func errHeld(format string, args ...any) error {
	return &Error{Kind: ErrOverloaded, RetryAfter: askLater, Err: fmt.Errorf(format+"; ask again later", args...)}
}

// hold counts jobs that have not ended.
func (p *Puller) hold(jobs ...*job) {
	caller := jobs[0].caller
	held := p.held[caller]
	for _, j := range jobs {
		p.unended, held = p.unended.plus(j.counted, 1), held.plus(j.counted, 1)
	}
	p.held[caller] = held
}

// drop is the reverse of hold.
func (p *Puller) drop(jobs ...*job) {
	caller := jobs[0].caller
	held := p.held[caller]
	for _, j := range jobs {
		p.unended, held = p.unended.plus(j.counted, -1), held.plus(j.counted, -1)
	}
	if p.held[caller] = held; held.jobs == 0 {
		delete(p.held, caller)
	}
}

// plus adds an amount so many times.
func (a amount) plus(b amount, times int) amount {
	return amount{a.jobs + times*b.jobs, a.bytes + int64(times)*b.bytes}
}
