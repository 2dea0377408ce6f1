package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream/pullstream"
)

// attempt is one try of a transfer. It is of run's goroutine, as all that only that
// goroutine writes: the transfer's phase too.
type attempt struct {
	*transfer
	ctx      context.Context     // of the transfer, with the attempt's span
	answered func()              // the registry gives what it was asked for
	fetched  func()              // it is asked for nothing more
	cooled   func(time.Duration) // it asks for fewer requests
	// acceleration is of this attempt's pull; nil before it, and where there is no
	// accelerator.
	acceleration engines.Acceleration
}

// pull makes the attempt: it looks what is there, has the engine pull if that is not
// enough, and proves it.
func (a *attempt) pull() (puller.Result, error) {
	before, err := a.awaitEngine()
	// After an attempt that brought what could not be proven, what is there is not
	// believed, but pulled again; after any other only what has a digest.
	believed := a.at.Attempt == 0 || !a.unproven && len(before.Digests(names.ParseName(a.key.Image).Repository)) > 0
	var mismatch error
	if err == nil {
		mismatch = a.table.opts.Prover.Mismatch(before, a.key.Wanted())
	}
	there := err == nil && believed && mismatch == nil
	switch {
	case err != nil && puller.KindOf(err) != puller.ErrNotFound:
		return puller.Result{}, err
	case !a.looked:
		a.looked = true
		if before.Content == puller.ContentWhole && puller.KindOf(mismatch) != puller.ErrNotFound { // else it is there in part, or under other names only
			a.firstID = before.ID
		}
	}
	given, begun, err := there, false, error(nil)
	if there && !a.table.access.has(a.key, before) {
		if given, begun, err = a.verifyAccess(before); err != nil {
			return puller.Result{}, err
		}
	}
	if given {
		present := a.result(before, puller.SourcePresent)
		// It has come since its jobs looked.
		if !a.end(present, nil, func(m *Member) bool { return m.request.Policy.AsksRegistry() }) {
			return present, nil
		}
	}
	if !there && !a.keepPullable(mismatch) {
		return puller.Result{}, NotPresent(a.key.Image, puller.PolicyMissing, mismatch)
	}
	if !begun {
		a.begin(!there)
	}
	a.setPresent(before, there)
	if there {
		if settled, err := a.settleNewer(before); err != nil || settled {
			return a.result(before, puller.SourceUpToDate), err
		}
	}
	release, err := a.admit()
	if err != nil {
		return puller.Result{}, err
	}
	var after puller.Image
	defer func() { release(after) }()
	defer func() {
		if a.acceleration != nil {
			a.acceleration.Close()
		}
	}()
	progress, end, err := a.stream()
	a.noteBrought(before, err)
	if err != nil {
		return puller.Result{}, a.explain(err)
	}
	a.enter(puller.PhaseVerifying)
	began := time.Now()
	after, digest, err := a.table.opts.Prover.Prove(a.ctx, a.key.Wanted(), end, a.credentials)
	a.timed(func(x *puller.Timings) { x.Verify = time.Since(began).Seconds() })
	if err != nil {
		a.unproven = a.unproven || puller.KindOf(err) != puller.ErrEngineUnavailable
		return puller.Result{}, err
	}
	a.table.access.grant(a.key, after.ID)
	now := time.Now()
	for _, l := range progress.Finish() {
		a.post(l, progress.Totals(now))
	}
	totals := progress.Totals(now)
	a.totals.Store(&totals)
	result := a.result(after, puller.SourcePulled)
	if digest != "" {
		result.Digest = digest
	}
	result.Downloaded = totals.Downloaded
	if a.stalled {
		result.Accelerated = &puller.Accelerated{Way: puller.WayNone, Reason: "an accelerated attempt stood still"}
	} else if a.acceleration != nil {
		how := a.acceleration.Accelerated()
		if result.Accelerated = &how; how.Way != puller.WayNone {
			result.Downloaded = how.FromRegistry + how.FromPeers
		}
	}
	return result, nil
}

// keepPullable ends the members that can't or must not be pulled, and reports whether
// any are left.
func (a *attempt) keepPullable(mismatch error) bool {
	if !a.end(puller.Result{}, NotPresent(a.key.Image, puller.PolicyNever, mismatch), func(m *Member) bool { return m.request.Policy != puller.PolicyNever }) {
		return false
	}
	return names.ParseName(a.key.Image).ID == "" ||
		a.end(puller.Result{}, NotPresent(a.key.Image, puller.PolicyMissing, mismatch), func(*Member) bool { return false })
}

func (a *attempt) inspect() (puller.Image, error) {
	return a.table.opts.Engine.Inspect(a.ctx, names.EngineRef(a.key.Image), a.key.Platform)
}

// result describes the image that is there. What was pulled turns out to have been
// up to date if it is what the engine had at first.
func (a *attempt) result(found puller.Image, source puller.Source) puller.Result {
	r := a.table.opts.Prover.Result(found, a.key.Wanted())
	r.Source = source
	if source == puller.SourcePulled && found.ID == a.firstID {
		r.Source = puller.SourceUpToDate
	}
	return r
}

// settleNewer ends all members but those that want a pull in any case, if a member
// asks for what is newer and the registry has nothing newer than what is there. It
// reports whether none are left. Where the registry can't be asked, the engine's
// pull finds out. A registry that limits the rate is left alone.
func (a *attempt) settleNewer(before puller.Image) (settled bool, err error) {
	if a.table.opts.Registry == nil || !a.any(func(m *Member) bool { return m.request.Policy == puller.PolicyNewer }) {
		return false, nil
	}
	digest, err := a.head()
	switch {
	case puller.KindOf(err) == puller.ErrRateLimited:
		return false, err
	case err != nil:
		a.notice(fmt.Sprintf("the registry could not be asked for the digest, so the engine is (%v)", err), 0)
		return false, nil
	}
	a.table.access.grant(a.key, before.ID)
	if !a.table.opts.Prover.Has(before, a.key.Wanted(), digest) {
		return false, nil
	}
	result := a.result(before, puller.SourceUpToDate)
	result.Digest = digest
	return !a.end(result, nil, func(m *Member) bool { return m.request.Policy == puller.PolicyAlways }), nil
}

// setPresent notes what is there, for those that are content with it.
func (a *attempt) setPresent(before puller.Image, there bool) {
	var present *puller.Result
	if there && a.table.access.has(a.key, before) {
		r := a.result(before, puller.SourcePresent)
		present = &r
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.present = present
}

// head asks the registry what the image's name stands for now.
func (a *attempt) head() (digest string, err error) {
	digest, err = a.table.opts.Registry.Head(a.ctx, a.key.Image, a.credentials)
	if puller.KindOf(err) == puller.ErrRateLimited {
		err = &puller.Error{Op: "ask the registry for", Ref: a.key.Image, Kind: puller.ErrRateLimited, RetryAfter: puller.RetryAfterOf(err), Err: &registryError{puller.Inner(err)}}
	}
	return digest, err
}

// stream has the engine pull and tells the progress, which it returns, with what the
// stream told of its end.
func (a *attempt) stream() (progress *pullstream.Progress, end proof.Ending, err error) {
	credentials, missing := a.shown()
	secrets := redact.Of(credentials)
	a.hide(secrets)
	ctx, dog := a.table.watch(a.ctx, a.key.Image)
	defer dog.stop()
	progress = new(pullstream.Progress)
	began := time.Now()
	var first time.Time
	err = a.enginePull(ctx, puller.Pull{
		Image: a.key.Image, Platform: a.key.Platform, Credentials: credentials,
		Connected: func(c puller.Connection) { a.timed(func(x *puller.Timings) { x.Connection = c }) },
		Busy:      a.cooled,
	}, func(m pullstream.Message) {
		now := time.Now()
		m = secrets.Message(m)
		change := progress.Fold(m, now)
		dog.note(first.IsZero(), change, progress)
		if first.IsZero() {
			first = now
			a.timed(func(x *puller.Timings) { x.FirstByte = now.Sub(began).Seconds() })
			a.enter(puller.PhasePulling)
		}
		end.Note(m, a.key.Image)
		if change.Layer != nil {
			if change.Layer.Current > 0 {
				a.answered()
			}
			if progress.Fetched() {
				a.fetched()
			}
			a.post(*change.Layer, progress.Totals(now))
		}
		if change.Notice != "" {
			a.notice(change.Notice, 0)
		}
	})
	if !first.IsZero() {
		a.timed(func(x *puller.Timings) { x.Stream = time.Since(first).Seconds() })
	}
	return progress, end, secrets.Error(puller.WithoutCredentials(puller.KindOf(err), err, missing))
}

// admit returns when the engine's disk has room for the pull. The notices of the first attempt
// are passed on; those of the others say the same.
func (a *attempt) admit() (release func(puller.Image), err error) {
	if a.table.opts.Admission == nil {
		return func(puller.Image) {}, nil
	}
	p := puller.Pull{Image: a.key.Image, Platform: a.key.Platform, Credentials: a.credentials}
	return a.table.opts.Admission.Admit(a.ctx, p, func(message string) {
		if a.at.Attempt == 1 {
			a.notice(message, 0)
		}
	})
}

// enginePull has the engine pull, through the accelerator if there is one and no
// member is against it.
func (a *attempt) enginePull(ctx context.Context, p puller.Pull, each func(pullstream.Message)) error {
	if a.table.opts.Accelerator == nil || a.stalled || a.any(func(m *Member) bool { return m.request.Accelerate == puller.AccelerateOff }) {
		return a.table.opts.Engine.Pull(ctx, p, each)
	}
	a.acceleration = a.table.opts.Accelerator.Accelerate(ctx, p)
	err := a.acceleration.Pull(ctx, each)
	// What hangs on the way through the accelerator may not hang for the engine.
	a.stalled = puller.KindOf(err) == puller.ErrStalled && a.acceleration.Accelerated().Way != puller.WayNone
	return err
}

// shown returns the credentials that the engine shows to the registry: those of the
// members, or else Towline's own. missing is why there are none of the latter, where
// that is known.
func (a *attempt) shown() (c puller.Credentials, missing error) {
	if a.credentials != (puller.Credentials{}) || a.table.opts.Registry == nil {
		return a.credentials, nil
	}
	own, err := a.table.opts.Registry.Credentials(a.ctx, a.key.Image)
	if err != nil {
		a.notice(fmt.Sprintf("the engine pulls without credentials: %v", err), 0)
	}
	return own, err
}

// timed changes the attempt's timings.
func (a *attempt) timed(change func(*puller.Timings)) {
	timings := *a.timings.Load()
	change(&timings)
	a.timings.Store(&timings)
}

// explain gives a failed pull, whose reason the engine's words do not tell, the
// reason that the registry tells, where asking it costs nothing. What the registry
// says is what a plan of the same image would say.
func (a *attempt) explain(err error) error {
	ask := func(ctx context.Context) (puller.Manifest, error) {
		engine, err := a.table.opts.Engine.Info(ctx)
		if err != nil {
			return puller.Manifest{}, err
		}
		r := puller.PullRequest{Image: a.key.Image, Platform: a.key.Platform, Credentials: a.credentials}
		return a.table.opts.Prover.Manifest(ctx, r, engine.Platform, engine.OSVersion, true)
	}
	return proof.Explain(a.ctx, a.key.Image, err, ask)
}
