package puller

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// Submit accepts a job and returns it, queued or further: it has ended where the
// engine says at once that there is nothing to pull. The job is on disk by then.
// The error is ErrInvalidRequest, naming the field, ErrForbidden, naming the rule,
// ErrConflict, or ErrOverloaded.
func (p *Puller) Pull(r PullRequest) (Job, error) {
	asked := r
	r, named, err := r.withDefaults(p.opts)
	if err == nil {
		err = checkPull(named, r, p.opts)
	}
	if err != nil {
		return Job{}, err
	}
	j := p.newPull(r)
	asked.Image, asked.Platform = r.Image, r.Platform
	j.fingerprint, j.counted = fingerprint(j, asked), j.count(0, nil)
	return p.accept(j)
}

// newJob returns a job that has not been accepted.
func (p *Puller) newJob() *job {
	j := &job{p: p, accepted: make(chan struct{}), done: make(chan struct{})}
	j.view = Job{State: StateQueued, CreatedAt: time.Now().UTC()}
	j.topic = p.hub.Topic()
	return j
}

// newPull returns the job of a request that has its defaults.
func (p *Puller) newPull(r PullRequest) *job {
	j := p.newJob()
	j.ask(r)
	j.key.identity = r.Credentials.Identity(p.key)
	j.private = r.Credentials != Credentials{}
	j.view.Kind, j.view.Image, j.view.Platform, j.view.Policy, j.view.Priority = JobPull, r.Image, r.Platform, r.Policy, r.Priority
	return j
}

// ask notes what a pull asks for.
func (j *job) ask(r PullRequest) {
	j.request, j.caller, j.idempotency = r, r.Caller, keyOf(r.Caller, r.IdempotencyKey)
	j.key = transferKey{image: r.Image, platform: r.Platform}
}

// keyOf returns a request's idempotency key as it is kept: each caller has keys of
// its own. Names of callers have no zero byte in them.
func keyOf(caller, key string) string {
	if key == "" {
		return ""
	}
	return caller + "\x00" + key
}

// fingerprint tells the request of a job from others with the same idempotency
// key: as it was asked for, with images and platforms in full form, but without
// the defaults, which may be others after a restart. Where the job has no key
// there is none.
func fingerprint(j *job, request any) []byte {
	if j.idempotency == "" {
		return nil
	}
	body, err := json.Marshal(struct {
		Request any
		Private bool
	}{request, j.private})
	if err != nil {
		panic("puller: a request that has no JSON: " + err.Error())
	}
	sum := sha256.Sum256(body)
	return sum[:]
}

// accept makes jobs part of the Puller, all or none, once they are on disk, and
// returns the first. Where the first has an idempotency key that is known, it
// returns the job that came with it.
func (p *Puller) accept(jobs ...*job) (Job, error) {
	first := jobs[0]
	for {
		known, err := p.reserve(jobs)
		if err != nil {
			return Job{}, err
		}
		if known == nil {
			break
		}
		<-known.accepted
		if known.refusal == nil {
			if !known.cameWith(first) {
				return Job{}, errKeyTaken(first.idempotency)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return known.snapshot(), nil
		}
		// That one was refused; this one may fare better.
	}
	if first.idempotency != "" {
		switch r, err := p.store.Keyed(first.idempotency); {
		case KindOf(err) == ErrNotFound:
		case err != nil:
			p.refuse(jobs, err)
			return Job{}, err
		case !bytes.Equal(r.Fingerprint, first.fingerprint):
			err := errKeyTaken(first.idempotency)
			p.refuse(jobs, err)
			return Job{}, err
		default:
			p.refuse(jobs, Errorf(ErrConflict, "another job has its key"))
			return p.Job(r.Job.ID)
		}
	}
	p.glance(first)
	e := &entry{jobs: jobs, done: make(chan error, 1)}
	p.mu.Lock()
	p.ledger.enter(e)
	p.mu.Unlock()
	if err := p.written(e); err != nil {
		p.refuse(jobs, err)
		return Job{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return first.snapshot(), nil
}

// written waits until an entry's jobs are accepted, or returns why they are not.
func (p *Puller) written(e *entry) error {
	var err error
	select {
	case err = <-e.done:
	case <-p.ledger.done:
		select {
		case err = <-e.done: // with the last of it
		default:
			return errClosing // it came after that
		}
	}
	if err != nil {
		return errUnkept(err)
	}
	return nil
}

// cameWith reports whether a job came with the request that another one has. Of
// a job of before a restart it is not known which credentials came with it.
func (j *job) cameWith(other *job) bool {
	forgotten := j.key.identity == [sha256.Size]byte{}
	return (forgotten || j.key.identity == other.key.identity) && bytes.Equal(j.fingerprint, other.fingerprint)
}

func errKeyTaken(key string) error {
	_, asked, _ := strings.Cut(key, "\x00")
	return Errorf(ErrConflict, "Idempotency-Key: %q came with another request before", Clip(asked))
}

// reserve gives jobs their IDs and a place in the budgets. It returns the job
// that has the first one's idempotency key, if there is one that has not ended.
func (p *Puller) reserve(jobs []*job) (known *job, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := jobs[0]
	switch {
	case p.closing:
		return nil, errClosing
	case first.idempotency != "" && p.keys[first.idempotency] != nil:
		return p.keys[first.idempotency], nil
	}
	if err := p.checkBudget(first.caller, jobs); err != nil {
		return nil, err
	}
	p.hold(jobs...)
	if first.idempotency != "" {
		p.keys[first.idempotency] = first
	}
	for _, j := range jobs {
		j.id = p.newID()
		j.view.ID = j.id
		if j != first {
			j.parent, j.view.Parent = first, first.view.ID
			first.view.Children = append(first.view.Children, j.view.ID)
		}
		j.tell(func(seq uint64) Event { return StateEvent(seq, &j.view) })
	}
	return nil, nil
}

// newID returns a ULID above all that were given before, also when the clock is
// set back: jobs are ordered by it. The admission lock is held.
func (p *Puller) newID() string {
	p.lastMS = max(p.lastMS, ulid.Now())
	return ulid.MustNew(p.lastMS, p.entropy).String()
}

// refuse gives back what reserve has given.
func (p *Puller) refuse(jobs []*job, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(jobs...)
	for _, j := range jobs {
		if p.keys[j.idempotency] == j {
			delete(p.keys, j.idempotency)
		}
		j.refusal = err
		j.topic.Withdraw()
		close(j.accepted)
	}
}

// enlist makes jobs known. The admission lock is held.
func (p *Puller) enlist(jobs []*job) {
	for _, j := range jobs {
		p.turns++
		j.begun, j.turn = true, p.turns
		p.jobs[j.view.ID] = j
		j.topic.Announce(j.about())
		if j.batch != nil {
			p.hub.Show(j.batch.board, j.about())
		}
		i, _ := slices.BinarySearchFunc(p.order, j.view.ID, byID)
		p.order = slices.Insert(p.order, i, j)
		p.meter.accepted()
		close(j.accepted)
	}
}

func byID(j *job, id string) int { return strings.Compare(j.view.ID, id) }
