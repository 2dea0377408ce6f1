package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	retries "github.com/avast/retry-go/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/queue"
	"github.com/towline/towline/puller/retry"
	"github.com/towline/towline/puller/tracing"
)

// The wait between attempts is random, between the half and the whole of a second that
// doubles with each attempt to at most half a minute. Six retries, the default of
// pull.retries, so last at least 30.5 s in all, beside the attempts themselves.
const (
	retryDelay    = time.Second
	mostRetryWait = 30 * time.Second
)

// retry makes attempts until one succeeds or no member wants another. Each begins by
// asking the engine what is there by now.
func (t *transfer) retry() (puller.Result, error) {
	return retries.NewWithData[puller.Result](
		retries.Context(t.ctx),
		retries.UntilSucceeded(),
		retries.RetryIf(t.again),
		retries.DelayType(t.backOff),
	).Do(t.withSlot)
}

// again reports whether there is to be another attempt after one that failed. Members
// that have had as many as they asked for end with its error.
func (t *transfer) again(err error) bool {
	kind := puller.KindOf(err)
	if t.ctx.Err() != nil || !kind.Retryable() {
		return false
	}
	if kind == puller.ErrCorrupt { // once: it may have been the way, twice it is the image
		if t.corrupted {
			return false
		}
		t.corrupted = true
	}
	t.failedWith(err)
	return t.end(puller.Result{}, err, func(m *Member) bool {
		m.failures++
		return m.failures <= m.request.Retries
	})
}

// failedWith notes what the last attempt failed with, and returns what was noted before.
func (t *transfer) failedWith(err error) (before error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, t.lastErr = t.lastErr, err
	return before
}

// backOff says how long to wait before the next attempt, and tells it. A registry's
// cool-down is waited for in the queue.
func (t *transfer) backOff(n uint, err error, _ retries.DelayContext) time.Duration {
	if t.at.Attempt > 0 {
		t.enter(puller.PhaseResolving) // nothing of the attempt that failed goes on
	}
	t.table.metrics.retries.WithLabelValues(string(puller.KindOf(err))).Inc()
	if puller.KindOf(err) == puller.ErrRateLimited {
		return 0
	}
	most := mostRetryWait
	if n <= 5 { // the next is longer than mostRetryWait
		most = retryDelay << (n - 1)
	}
	wait := most/2 + rand.N(most/2)
	t.notice(fmt.Sprintf("attempt %d failed (%s: %v); the next one begins in %s", t.at.Attempt, puller.KindOf(err), puller.Inner(err), wait.Round(time.Millisecond)), 0)
	return wait
}

// withSlot makes one attempt when it has a slot.
func (t *transfer) withSlot() (puller.Result, error) {
	slot, err := t.takeSlot()
	if err != nil {
		return puller.Result{}, err
	}
	defer slot.Release()
	metrics := t.table.metrics
	metrics.running.Inc()
	defer metrics.running.Dec()

	ctx, span := t.trace()
	a := attempt{transfer: t, ctx: ctx, answered: sync.OnceFunc(slot.Answered), fetched: sync.OnceFunc(slot.Fetched), cooled: func(d time.Duration) { slot.CoolDown(d) }}
	before := t.timings.Load()
	result, err := a.pull()
	tracing.End(span, err)
	timings := t.timings.Load()
	if timings == before {
		timings = nil // those of an earlier attempt
	}
	metrics.attempt(result, err, timings)
	switch {
	case err == nil && result.Source != puller.SourcePresent:
		slot.Served()
	case puller.KindOf(err) == puller.ErrRateLimited:
		err = t.rateLimited(slot, err)
	}
	return result, err
}

// trace begins the span of an attempt. It is a child of the job that the transfer began
// with, and has links to those that share it.
func (t *transfer) trace() (context.Context, trace.Span) {
	var parents []string
	t.mu.Lock()
	for _, m := range t.members {
		if p := m.request.TraceParent; p != "" {
			parents = append(parents, p)
		}
	}
	t.mu.Unlock()
	parent := ""
	if len(parents) > 0 {
		parent = parents[0]
	}
	ctx, span := t.table.opts.Tracer.Start(tracing.Context(t.ctx, parent), "attempt")
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(attribute.String("container.image.name", t.key.Image), attribute.Int("towline.attempt", t.at.Attempt+1))
	for _, other := range parents[min(1, len(parents)):] {
		span.AddLink(trace.Link{SpanContext: trace.SpanContextFromContext(tracing.Context(context.Background(), other))})
	}
	return ctx, span
}

// takeSlot returns an attempt's slot. The first attempt has it; the others join the
// queue anew, in the transfer's old turn, and wait.
func (t *transfer) takeSlot() (*queue.Ticket, error) {
	if slot := t.slot; slot != nil {
		t.slot = nil
		return slot, nil
	}
	t.mu.Lock()
	closed, place := t.closed, t.wants
	t.mu.Unlock()
	if closed {
		return nil, errUnwanted
	}
	ready := make(chan struct{})
	ticket, until := t.table.queue.Join(place, func(*queue.Ticket) { close(ready) }, t.cooling)
	t.mu.Lock()
	t.ticket = ticket
	now := t.wants
	t.mu.Unlock()
	ticket.Raise(now.Rank, now.Batched, now.Callers...) // members may have come since
	t.cooling(until)
	var err error
	select {
	case <-ready:
	case <-t.ctx.Done():
		err = t.cause()
	}
	t.mu.Lock()
	t.ticket = nil
	t.mu.Unlock()
	if err != nil && !ticket.Abandon() {
		ticket.Release()
	}
	return ticket, err
}

// awaitEngine asks the engine what it has under the name. It waits for an engine that
// does not answer, as long as an engine has to begin a pull. Members that want no
// second try end at once.
func (a *attempt) awaitEngine() (puller.Image, error) {
	image, err := a.inspect()
	unavailable := func() bool { return puller.KindOf(err) == puller.ErrEngineUnavailable }
	if !unavailable() || !a.end(puller.Result{}, err, func(m *Member) bool { return m.request.Retries > 0 }) {
		return image, err
	}
	a.notice(fmt.Sprintf("the engine does not answer; waiting for it (%v)", puller.Inner(err)), 0)
	before := a.failedWith(err) // which a member whose time is up meanwhile is told
	wait := retry.Backoff{Limit: a.table.opts.FirstByteTimeout}
	for wait.Wait(a.ctx) {
		if image, err = a.inspect(); !unavailable() {
			a.failedWith(before)
			a.notice("the engine answers again", 0)
			return image, err
		}
	}
	if a.ctx.Err() != nil {
		return puller.Image{}, a.cause()
	}
	// It has been waited for: more of the same would not help.
	return puller.Image{}, retries.Unrecoverable(err)
}

// rateLimited begins the registry's cool-down, of the length that the registry itself
// asks for if it can be asked, and returns err with what is left of it.
func (t *transfer) rateLimited(slot *queue.Ticket, err error) error {
	asked := puller.RetryAfterOf(err)
	var known *registryError
	if asked == 0 && t.table.opts.Registry != nil && !errors.As(err, &known) {
		_, refusal := t.table.opts.Registry.Head(t.ctx, t.key.Image, t.credentials)
		asked = puller.RetryAfterOf(refusal)
	}
	left := slot.CoolDown(asked)
	if t.table.opts.Accelerator != nil {
		t.table.opts.Accelerator.CoolDown(names.RegistryOf(t.key.Image), left)
	}
	return &puller.Error{Op: "pull", Ref: t.key.Image, Kind: puller.ErrRateLimited, RetryAfter: left, Err: puller.Inner(err)}
}

// registryError is an ErrRateLimited error that the registry has answered Towline
// itself.
type registryError struct{ error }

func (e *registryError) Unwrap() error { return e.error }

// cooling tells members that the transfer waits for its registry's cool-down, unless
// they know. A member whose job does not last that long leaves: see Subscriber.Notice.
func (t *transfer) cooling(until time.Time) {
	t.mu.Lock()
	wait := time.Until(until).Round(time.Millisecond)
	if t.ticket == nil || t.closed || wait <= 0 || !until.After(t.until) {
		t.mu.Unlock()
		return // it has come to its turn, or its end, since, or waits for longer
	}
	t.until = until
	members := append([]*Member(nil), t.members...)
	t.mu.Unlock()
	for _, m := range members {
		m.sub.Notice(coolingNotice(t.key.Image, wait), wait)
	}
}

// ErrCooling is why a job ends that does not last as long as its registry's
// cool-down.
func ErrCooling(image string, wait time.Duration) error {
	return &puller.Error{Op: "pull", Ref: image, Kind: puller.ErrRateLimited, RetryAfter: wait,
		Err: fmt.Errorf("the registry limits the rate, for longer (%s) than the job may last", wait.Round(time.Second))}
}

func coolingNotice(image string, wait time.Duration) string {
	return fmt.Sprintf("the registry %s limits the rate; waiting for %s", names.RegistryOf(image), wait.Round(time.Second))
}
