package puller

import (
	"fmt"
	"sync"
	"time"

	"github.com/avast/retry-go/v5"
)

const (
	// The wait between attempts is random, up to a second that doubles with
	// each attempt to at most half a minute.
	retryDelay    = time.Second
	mostRetryWait = 30 * time.Second
	// An engine that does not answer is asked again after a time that doubles
	// from the least to the most.
	leastEngineWait = 100 * time.Millisecond
	mostEngineWait  = 2 * time.Second
)

// retry makes attempts until one succeeds or no job wants another. Each begins
// by asking the engine what is there by now.
func (t *transfer) retry() (Result, error) {
	return retry.NewWithData[Result](
		retry.Context(t.ctx),
		retry.UntilSucceeded(),
		retry.RetryIf(t.again),
		retry.Delay(retryDelay),
		retry.MaxDelay(mostRetryWait),
		retry.DelayType(t.backOff),
	).Do(t.admitted)
}

// again reports whether there is to be another attempt after one that failed.
// Jobs that have had as many as they asked for end with its error.
func (t *transfer) again(err error) bool {
	if t.ctx.Err() != nil {
		return false
	}
	switch KindOf(err) {
	case ErrRateLimited, ErrEngineUnavailable, ErrRegistryUnavailable, ErrTruncated, ErrStalled:
	case ErrCorrupt: // once: it may have been the way, twice it is the image
		if t.corrupted {
			return false
		}
		t.corrupted = true
	default:
		return false
	}
	t.p.mu.Lock()
	t.lastErr = err
	t.p.mu.Unlock()
	return t.keep(err, func(j *job) bool {
		j.failures++
		return j.failures <= *j.request.Retries
	})
}

// backOff says how long to wait before the next attempt, and tells it. A
// registry's cool-down is waited for elsewhere, by all who want something of
// it.
func (t *transfer) backOff(n uint, err error, c retry.DelayContext) time.Duration {
	if t.attempt > 0 {
		t.enter(PhaseResolving) // nothing of the attempt that failed goes on
	}
	if KindOf(err) == ErrRateLimited {
		return 0
	}
	wait := retry.FullJitterBackoffDelay(n-1, err, c)
	t.notice(fmt.Sprintf("attempt %d failed (%s: %v); the next one begins in %s", t.attempt, KindOf(err), err, wait.Round(time.Millisecond)), 0)
	return wait
}

// admitted makes one attempt when its turn has come.
func (t *transfer) admitted() (Result, error) {
	slot, err := t.admit()
	if err != nil {
		return Result{}, err
	}
	defer slot.release()
	t.answered = sync.OnceFunc(slot.answered)
	t.p.meter.running.Inc()
	defer t.p.meter.running.Dec()

	result, err := t.pull()
	t.p.meter.attempt(err, result.Downloaded)
	switch {
	case err == nil && result.Source != SourcePresent:
		slot.served()
	case KindOf(err) == ErrRateLimited:
		err = t.rateLimited(slot, err)
	}
	return result, err
}

// awaitEngine asks the engine what it has under the name. If the engine does
// not answer, it waits for it as long as an engine has to begin a pull; jobs
// that want no second try end at once.
func (t *transfer) awaitEngine() (Image, error) {
	image, err := t.inspect()
	if KindOf(err) != ErrEngineUnavailable || !t.keep(err, func(j *job) bool { return *j.request.Retries > 0 }) {
		return image, err
	}
	t.notice(fmt.Sprintf("the engine does not answer; waiting for it (%v)", Inner(err)), 0)
	began := time.Now()
	for wait := leastEngineWait; ; wait = min(2*wait, mostEngineWait) {
		if err := sleep(t.ctx, wait); err != nil {
			return Image{}, err
		}
		if image, err = t.inspect(); KindOf(err) != ErrEngineUnavailable {
			t.notice("the engine answers again", 0)
			return image, err
		}
		if limit := t.p.opts.FirstByteTimeout; limit > 0 && time.Since(began) >= limit {
			// It has been waited for: more of the same would not help.
			return Image{}, retry.Unrecoverable(err)
		}
	}
}
