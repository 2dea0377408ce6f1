package puller

import (
	"context"
	"fmt"
	"time"

	"github.com/towline/towline/stream/pullstream"
)

// pull makes one attempt: it looks what is there, has the engine pull if that
// is not enough, and proves it.
func (t *transfer) pull() (Result, error) {
	before, err := t.awaitEngine()
	// After an attempt that brought what could not be proven, what is there is not
	// believed, but pulled again; after any other only what has a digest.
	believed := t.attempt == 0 || !t.unproven && len(before.Digests(ParseName(t.key.image).Repository)) > 0
	var why error
	if err == nil {
		why = t.p.absence(before, t.key.wanted())
	}
	there := err == nil && believed && why == nil
	switch {
	case err != nil && KindOf(err) != ErrNotFound:
		return Result{}, err
	case !t.looked:
		t.looked = true
		if before.Content == ContentWhole && KindOf(why) != ErrNotFound { // else it is there in part, or under other names only
			t.firstID = before.ID
		}
	}
	given, begun, err := there, false, error(nil)
	if there && !t.p.access.has(t.key, before) {
		if given, begun, err = t.verify(before); err != nil {
			return Result{}, err
		}
	}
	if given && t.dismiss(t.result(before, SourcePresent), func(p Policy) bool { return !p.AsksRegistry() }) {
		// It has come since its jobs looked.
		return t.result(before, SourcePresent), nil
	}
	if !there && !t.keepPulls(why) {
		return Result{}, errNotPresent(PullRequest{Image: t.key.image}, why)
	}
	if !begun {
		t.begin(!there)
	}
	t.note(before, there)
	if there {
		if settled, err := t.dismissNewer(before); err != nil || settled {
			return t.result(before, SourceUpToDate), err
		}
	}
	progress, end, err := t.stream()
	t.noteBrought(before, err)
	if err != nil {
		return Result{}, t.explain(err)
	}
	t.enter(PhaseVerifying)
	began := time.Now()
	after, digest, err := t.p.prove(t.ctx, t.key.wanted(), end, t.credentials)
	t.timed(func(x *Timings) { x.Verify = time.Since(began).Seconds() })
	if err != nil {
		t.unproven = t.unproven || KindOf(err) != ErrEngineUnavailable
		return Result{}, err
	}
	t.p.access.grant(t.key, after.ID)
	now := time.Now()
	for _, l := range progress.Finish() {
		t.post(l, progress.Totals(now))
	}
	totals := progress.Totals(now)
	t.totals.Store(&totals)
	result := t.result(after, SourcePulled)
	if digest != "" {
		result.Digest = digest
	}
	result.Downloaded = totals.Downloaded
	return result, nil
}

// keepPulls ends the jobs that can't or must not be pulled, and reports whether any
// are left.
func (t *transfer) keepPulls(why error) bool {
	pullable := ParseName(t.key.image).ID == ""
	never := PullRequest{Image: t.key.image, Policy: PolicyNever}
	return t.keep(errNotPresent(never, why), func(j *job) bool { return j.request.Policy != PolicyNever }) &&
		(pullable || t.keep(errNotPresent(PullRequest{Image: t.key.image}, why), func(*job) bool { return false }))
}

func (t *transfer) inspect() (Image, error) {
	return t.p.engine.Inspect(t.ctx, EngineRef(t.key.image), t.key.platform)
}

// result describes the image that is there. What was pulled turns out to have
// been up to date if it is what the engine had at first.
func (t *transfer) result(found Image, source Source) Result {
	r := t.p.resultOf(found, t.key.wanted())
	r.Source = source
	if source == SourcePulled && found.ID == t.firstID {
		r.Source = SourceUpToDate
	}
	return r
}

// dismissNewer ends all jobs but those that want a pull in any case, if a job
// AsksRegistry for what is newer and the registry has nothing newer than what is there.
// It reports whether none are left. Where the registry can't be asked, the
// engine's pull finds out; but a registry that limits the rate is left alone.
func (t *transfer) dismissNewer(before Image) (settled bool, err error) {
	wants := false
	t.each(func(j *job) { wants = wants || j.request.Policy == PolicyNewer })
	if !wants || t.p.opts.Registry == nil {
		return false, nil
	}
	digest, err := t.head()
	switch {
	case KindOf(err) == ErrRateLimited:
		return false, err
	case err != nil:
		t.notice(fmt.Sprintf("the registry could not be asked for the digest, so the engine is (%v)", err), 0)
		return false, nil
	}
	t.p.access.grant(t.key, before.ID)
	if !t.p.has(before, t.key.wanted(), digest) {
		return false, nil
	}
	result := t.result(before, SourceUpToDate)
	result.Digest = digest
	return t.dismiss(result, func(p Policy) bool { return p != PolicyAlways }), nil
}

// note notes what is there, for those who are content with it.
func (t *transfer) note(before Image, there bool) {
	var present *Result
	if there && t.p.access.has(t.key, before) {
		r := t.result(before, SourcePresent)
		present = &r
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.present = present
}

// end ends a job with what the transfer ends with. A job that asks for what is
// newer gets what is there where the registry does not answer, unless it is
// strict. The admission lock is held, and to be given back by unlock.
func (t *transfer) end(j *job, result Result, err error) {
	kind := KindOf(err)
	if (kind == ErrRegistryUnavailable || kind == ErrRateLimited) && t.present != nil && j.request.Policy == PolicyNewer && !j.request.Strict {
		j.notice(fmt.Sprintf("what is present is kept, since the registry could not be asked for what is newer (%v)", err), 0)
		result, err = *t.present, nil
	}
	t.p.finish(j, result, err)
}

// head asks the registry what the image's name stands for now.
func (t *transfer) head() (digest string, err error) {
	digest, err = t.p.opts.Registry.Head(t.ctx, t.key.image, t.credentials)
	if KindOf(err) == ErrRateLimited {
		err = &Error{Op: "ask the registry for", Ref: t.key.image, Kind: ErrRateLimited, RetryAfter: RetryAfterOf(err), Err: &refusedError{Inner(err)}}
	}
	return digest, err
}

// stream has the engine pull and tells the progress, which it returns, with what
// the stream told of its end.
func (t *transfer) stream() (progress *pullstream.Progress, end ending, err error) {
	credentials, unshown := t.shown(t.ctx)
	secrets := credentials.Redactor()
	t.hide(secrets)
	ctx, dog := t.p.watch(t.ctx, t.key.image)
	defer dog.stop()
	progress = new(pullstream.Progress)
	began := time.Now()
	var first time.Time
	err = t.p.engine.Pull(ctx, Pull{
		Image: t.key.image, Platform: t.key.platform, Credentials: credentials,
		Connected: func(c Connection) { t.timed(func(x *Timings) { x.Connection = c }) },
	}, func(m pullstream.Message) {
		now := time.Now()
		m = secrets.Message(m)
		change := progress.Fold(m, now)
		dog.heard(first.IsZero(), change, progress)
		if first.IsZero() {
			first = now
			t.timed(func(x *Timings) { x.FirstByte = now.Sub(began).Seconds() })
			t.enter(PhasePulling)
		}
		end.note(m, t.key.image)
		if change.Layer != nil {
			if change.Layer.Current > 0 {
				t.answered()
			}
			t.post(*change.Layer, progress.Totals(now))
		}
		if change.Notice != "" {
			t.notice(change.Notice, 0)
		}
	})
	if !first.IsZero() {
		t.timed(func(x *Timings) { x.Stream = time.Since(first).Seconds() })
	}
	return progress, end, secrets.Error(WithoutCredentials(KindOf(err), err, unshown))
}

// shown returns the credentials that the engine shows to the registry: those that
// the jobs came with, or else Towline's own. unshown is why there are none of the
// latter, where that is known.
func (t *transfer) shown(ctx context.Context) (c Credentials, unshown error) {
	if t.credentials != (Credentials{}) || t.p.opts.Registry == nil {
		return t.credentials, nil
	}
	own, err := t.p.opts.Registry.Credentials(ctx, t.key.image)
	if err != nil {
		t.notice(fmt.Sprintf("the engine pulls without credentials: %v", err), 0)
	}
	return own, err
}

// hide has the secrets of what the engine is shown taken out of all that the
// transfer's jobs tell.
func (t *transfer) hide(secrets *Redactor) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.secrets = secrets
	for _, j := range t.jobs {
		j.secrets = secrets
	}
}

// timed changes the attempt's timings.
func (t *transfer) timed(change func(*Timings)) {
	timings := *t.timings.Load()
	change(&timings)
	t.timings.Store(&timings)
}

// each calls do for every job, under the admission lock.
func (t *transfer) each(do func(*job)) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	for _, j := range t.jobs {
		do(j)
	}
}
