package jobs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/jobs/table"
	"github.com/towline/towline/puller/prewarm"
	"github.com/towline/towline/puller/pull"
	"github.com/towline/towline/puller/requests"
	"github.com/towline/towline/puller/run"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/tracing"
)

// Pull implements puller.Service. A job has ended at once where the engine says that
// there is nothing to pull.
func (s *Service) Pull(r puller.PullRequest) (puller.Job, error) {
	asked := r
	r, named, err := s.defaults.Pull(r)
	if err == nil {
		err = s.defaults.Check(puller.JobPull, named, r)
	}
	if err != nil {
		return puller.Job{}, err
	}
	asked.Image, asked.Platform = r.Image, r.Platform
	e := s.newJob(jobOf(puller.JobPull, r), r, asked, requests.PullBytes(&r))
	e.SetWork(pull.New(s.pulls, pull.Options{Job: e.Job, Request: r}))
	return s.accept(e)
}

// Run implements puller.Service.
func (s *Service) Run(r puller.RunRequest) (puller.Job, error) {
	asked := r
	r, wanted, err := s.defaults.Run(r)
	if err != nil {
		return puller.Job{}, err
	}
	asked.Image, asked.Platform = r.Image, r.Platform
	e := s.newJob(jobOf(puller.JobRun, wanted), wanted, asked, requests.PullBytes(&wanted)+requests.RunBytes(&r))
	e.SetWork(s.runs.New(e.Job, r, wanted))
	return s.accept(e)
}

// Prewarm implements puller.Service. It and its children are on disk by then.
func (s *Service) Prewarm(r puller.PrewarmRequest) (puller.Job, error) {
	asked := r
	r, err := s.CheckPrewarm(r)
	if err != nil {
		return puller.Job{}, err
	}
	asked.Images, asked.Platform = slices.Clone(asked.Images), r.Platform
	for i := range asked.Images {
		one := &asked.Images[i]
		if one.Image = r.Images[i].Image; one.Platform != "" {
			one.Platform = r.Images[i].Platform
		}
	}
	whole := struct {
		puller.PrewarmRequest
		Skipped []puller.Skipped
	}{asked, r.Skipped}
	all := puller.PullRequest{TraceParent: r.TraceParent, IdempotencyKey: r.IdempotencyKey, Credentials: r.Credentials}
	all.Caller = r.Caller
	if len(r.Logins) > 0 { // the job only notes that it has some
		all.Credentials = r.Logins[0]
	}
	parent := s.newJob(puller.Job{Kind: puller.JobPrewarm, Priority: r.Priority}, all, whole, prewarmBytes(r.IdempotencyKey, len(r.Images), r.Skipped))
	w := prewarm.New(s.prewarms, parent.Job, len(r.Images), store.Prewarm{FailFast: r.FailFast, Skipped: r.Skipped})
	parent.SetWork(w)
	family := []*table.Entry{parent}
	for i, image := range r.Images {
		image.TraceParent = parent.View().TraceParent
		child := s.newJob(jobOf(puller.JobPull, image), image, nil, requests.PullBytes(&image))
		adopt(s.pulls, w, i, child, pull.Options{Job: child.Job, Request: image})
		family = append(family, child)
	}
	return s.accept(family...)
}

// CheckPrewarm implements puller.Service.
func (s *Service) CheckPrewarm(r puller.PrewarmRequest) (puller.PrewarmRequest, error) {
	r, err := s.defaults.Prewarm(r)
	if err == nil {
		err = s.prewarms.CheckPlatforms(r.Images)
	}
	return r, err
}

// Plan implements puller.Service.
func (s *Service) Plan(ctx context.Context, r puller.PrewarmRequest) (puller.Plan, error) {
	r, err := s.defaults.Prewarm(r)
	if err != nil {
		return puller.Plan{}, err
	}
	return s.prewarms.Plan(ctx, r)
}

// adopt makes a job the i-th child of a prewarm.
func adopt(pulls *pull.Env, w *prewarm.Prewarm, i int, child *table.Entry, o pull.Options) {
	child.Child = true
	o.Layer, o.Settled = w.Layer, func() { w.ChildSettled(i) }
	p := pull.New(pulls, o)
	child.SetWork(p)
	w.SetChild(i, p)
}

// jobOf is the job that a pull, or a run's pull, begins as.
func jobOf(kind puller.JobKind, r puller.PullRequest) puller.Job {
	return puller.Job{Kind: kind, Image: r.Image, Platform: r.Platform, Policy: r.Policy, Priority: r.Priority}
}

// newJob returns a job that has not been accepted. asked is what the request was
// without its defaults, for its fingerprint; size is what it counts in its caller's
// budget, in bytes.
func (s *Service) newJob(view puller.Job, r puller.PullRequest, asked any, size int64) *table.Entry {
	view.State, view.CreatedAt, view.TraceParent = puller.StateQueued, time.Now().UTC(), r.TraceParent
	span := beginSpan(s.ctx, s.opts.Tracer, &view)
	q := job.Request{
		View: view, Timeout: time.Duration(r.Timeout), Caller: r.Caller, IdempotencyKey: keyOf(r.Caller, r.IdempotencyKey),
		Private: r.Credentials != puller.Credentials{},
	}
	if q.IdempotencyKey != "" {
		q.Fingerprint = fingerprint(asked, q.Private)
	}
	return table.NewEntry(&s.env, q, size, span)
}

// imageBytes is what counts for each image of a prewarm beside its request: until the
// prewarm ends, it is known what became of the image.
const imageBytes = 1 << 10

// prewarmBytes is what a prewarm counts beside its children.
func prewarmBytes(key string, images int, skipped []puller.Skipped) int64 {
	return int64(len(key)) + int64(images)*imageBytes + requests.SkippedBytes(skipped)
}

// beginSpan begins the span of a job, and notes its place in the job.
func beginSpan(ctx context.Context, tracer trace.Tracer, view *puller.Job) trace.Span {
	if tracer == nil {
		return trace.SpanFromContext(ctx) // which has none
	}
	ctx, span := tracer.Start(tracing.Context(ctx, view.TraceParent), "job "+string(view.Kind))
	view.TraceParent = tracing.Parent(ctx)
	return span
}

// endSpans ends the spans of jobs that were not accepted.
func endSpans(entries []*table.Entry, err error) {
	for _, e := range entries {
		tracing.End(e.Span, err)
	}
}

// keyOf returns a request's idempotency key as it is kept: each caller has keys of its
// own. Names of callers have no zero byte in them.
func keyOf(caller, key string) string {
	if key == "" {
		return ""
	}
	return caller + "\x00" + key
}

// fingerprint tells a request from others with the same idempotency key. It is of the
// request as it was sent, with images and platforms in full form, but without the
// defaults, which may have changed after a restart. Which credentials came with it does
// not count: they are not kept.
func fingerprint(asked any, private bool) []byte {
	body, err := json.Marshal(struct {
		Request any
		Private bool
	}{asked, private})
	if err != nil {
		panic("jobs: a request that has no JSON: " + err.Error())
	}
	sum := sha256.Sum256(body)
	return sum[:]
}

// accept makes jobs part of the Service, all or none, once they are on disk, and
// returns the first. Where the first has an idempotency key that is known, it returns
// the job that came with it.
func (s *Service) accept(entries ...*table.Entry) (puller.Job, error) {
	first := entries[0]
	for {
		known, err := s.table.Reserve(entries)
		if err != nil {
			endSpans(entries, err)
			return puller.Job{}, err
		}
		if known == nil {
			break
		}
		if known.Wait() == nil {
			err := puller.Errorf(puller.ErrConflict, "another job has its key")
			endSpans(entries, err)
			if !bytes.Equal(known.Fingerprint, first.Fingerprint) {
				return puller.Job{}, errKeyTaken(first.Key)
			}
			return s.told(known), nil
		}
		// That one was refused. This one may be accepted.
	}
	if key := first.Key; key != "" {
		switch r, err := s.store.Keyed(key); {
		case puller.KindOf(err) == puller.ErrNotFound:
		case err != nil:
			s.table.Refuse(entries, err)
			return puller.Job{}, err
		case !bytes.Equal(r.Fingerprint, first.Fingerprint):
			err := errKeyTaken(key)
			s.table.Refuse(entries, err)
			return puller.Job{}, err
		default:
			s.table.Refuse(entries, puller.Errorf(puller.ErrConflict, "another job has its key"))
			return s.Job(r.Job.ID)
		}
	}
	switch w := first.Work().(type) {
	case *pull.Pull:
		w.LookEarly(tracing.Context(s.ctx, first.View().TraceParent))
	case *run.Run:
		if err := s.outputs.Check(); err != nil {
			s.table.Refuse(entries, err)
			return puller.Job{}, err
		}
	}
	if err := s.writer.save(entries); err != nil {
		s.table.Refuse(entries, err)
		return puller.Job{}, err
	}
	return s.told(first), nil
}

// told returns a job as callers are told of it.
func (s *Service) told(e *table.Entry) puller.Job { return s.outputs.Kept(e.Snapshot()) }

func errKeyTaken(key string) error {
	_, asked, _ := strings.Cut(key, "\x00")
	return puller.Errorf(puller.ErrConflict, "Idempotency-Key: %q came with another request before", puller.Clip(asked))
}
