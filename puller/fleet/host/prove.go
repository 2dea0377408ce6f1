package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

// prover has sets of the fleet made on this host, and says how they stand: proven only by a
// job.
type prover struct {
	o     Options
	table *table
	asker *asker
}

// ofFleet returns the name of a set in the fleet.
func ofFleet(s keep.Set) (name string, ok bool) {
	name, ok = strings.CutPrefix(s.Name, keep.FleetPrefix)
	return name, ok && s.Source == keep.SetFromFleet
}

// pinnedRef returns the reference by which this host pulls an image: with its tag, which rules
// go by, and with the digest that it is to be.
func pinnedRef(i fleet.Image) string {
	n := names.ParseName(i.Image)
	if n.Tag != "" {
		return n.Repository + ":" + n.Tag + "@" + i.Digest
	}
	return n.Repository + "@" + i.Digest
}

const (
	putAgainAfter = time.Minute // where a set was refused
	tagAgainAfter = time.Minute // a tag is looked at
	tagLimit      = 30 * time.Second
	// proveAgainAfter is how long a job has that is to prove what is there.
	proveAgainAfter = 5 * time.Minute
)

// look has sets made, and looks how they stand, until ctx ends.
func (p *prover) look(ctx context.Context) {
	for {
		ended := p.o.Sets.Ended()
		resting := true
		for _, name := range p.table.names() {
			resting = p.lookAt(ctx, name) && resting
		}
		wait := p.o.Every
		if resting {
			wait = restEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-p.table.kicks:
		case <-ended:
		case <-time.After(wait):
		}
	}
}

// lookAt has a set made if it is not, looks how it stands, and reports whether it is at an
// end.
func (p *prover) lookAt(ctx context.Context, name string) (resting bool) {
	l, ok := p.table.get(name)
	if !ok {
		return true
	}
	if l.refused != nil || l.Generation == 0 {
		return true
	}
	if !l.put {
		if time.Now().Before(l.retryAt) {
			return false
		}
		p.asker.askNow(ctx, name) // who has it already gives it
		err := p.o.Sets.PutOfFleet(keep.FleetPrefix+name, requestOf(l.DesiredSet), tagsOf(l.DesiredSet))
		p.table.update(name, l.Generation, func(l *local) {
			if l.put, l.refusal = err == nil, err; err != nil {
				l.retryAt = time.Now().Add(putAgainAfter)
			}
		})
		if err != nil {
			if l.refusal == nil || l.refusal.Error() != err.Error() {
				p.o.Log.WithFields(logrus.Fields{"set": name, "generation": l.Generation}).WithError(err).Error("a set of the fleet can't be kept by this host; it is tried again")
			}
			p.table.report(name, l.Generation, refusalOf(l.Generation, err))
			return false
		}
		p.o.Log.WithFields(logrus.Fields{"set": name, "generation": l.Generation, "images": len(l.Images)}).Info("the fleet has a set for this host")
	}
	r := p.judge(ctx, name, l)
	p.table.report(name, l.Generation, r)
	return r.State == fleet.StateProven
}

func refusalOf(generation uint64, err error) fleet.Report {
	r := fleet.Report{Format: fleet.Format, Generation: generation, State: fleet.StateFailed, Error: err.Error(), Kind: puller.KindOf(err)}
	if r.Kind == puller.ErrForbidden {
		r.State = fleet.StateRefused
	}
	return r
}

// requestOf is a set of the fleet as a set of this host.
func requestOf(s fleet.DesiredSet) keep.SetRequest {
	r := keep.SetRequest{Policy: puller.PolicyMissing, Protect: &s.Protect, Priority: s.Priority, Window: s.Window, Timezone: s.Timezone}
	r.Caller = "fleet"
	for _, i := range s.Images {
		r.Images = append(r.Images, puller.PullRequest{Image: pinnedRef(i), Platform: i.Platform})
	}
	return r
}

// tagsOf returns the names that this host is to put to the images of a set, with their digests.
func tagsOf(s fleet.DesiredSet) map[string]string {
	tags := make(map[string]string)
	for _, i := range s.Images {
		if n := names.ParseName(i.Image); n.Tag != "" && n.Digest == "" {
			tags[i.Image] = i.Digest
		}
	}
	return tags
}

// judge says how a set stands.
func (p *prover) judge(ctx context.Context, name string, l local) fleet.Report {
	r := fleet.Report{Format: fleet.Format, Generation: l.Generation}
	set, err := p.o.Sets.Set(keep.FleetPrefix + name)
	if err != nil { // somebody has removed what was kept of it
		p.table.update(name, l.Generation, func(l *local) { l.put = false })
		r.State, r.Error = fleet.StatePulling, "it is made again: "+err.Error()
		return r
	}
	counts := make(map[fleet.State]int)
	var unproven []fleet.ImageState
	unasked := false
	for _, i := range l.Images {
		s := p.judgeImage(ctx, name, l, set, i)
		unasked = unasked || s.unasked
		if counts[s.State]++; s.State != fleet.StateProven {
			unproven = append(unproven, s.ImageState)
		}
	}
	closed := set.NextRun.After(time.Now()) && set.Counts[keep.SetPresent] < len(set.Images)
	if unasked && !set.Refreshes && !closed && time.Since(l.askedAt) >= proveAgainAfter {
		// What is there is not believed until a job has looked at it. It pulls nothing that is
		// there.
		if _, err := p.o.Sets.RefreshSet(keep.FleetPrefix + name); err != nil {
			r.Error = err.Error()
		}
		p.table.update(name, l.Generation, func(l *local) { l.askedAt = time.Now() })
	}
	switch {
	case len(unproven) == 0:
		r.State, r.Sum = fleet.StateProven, fleet.SumOf(l.Images)
		if len(l.Images) == 1 {
			r.Digest = l.Images[0].Digest
		}
		if l.provenAt != l.Generation {
			p.table.update(name, l.Generation, func(l *local) { l.provenAt = l.Generation })
			p.o.Log.WithFields(logrus.Fields{"set": name, "generation": l.Generation}).Info("a set of the fleet is proven on this host")
		}
		return r
	case set.Error != "":
		r.State, r.Error, r.Kind = fleet.StateFailed, set.Error, puller.ErrOverloaded
	case counts[fleet.StatePulling] > 0 || set.Refreshes:
		r.State = fleet.StatePulling
	case counts[fleet.StateRefused] > 0:
		r.State = fleet.StateRefused
	case counts[fleet.StateFailed] > 0:
		r.State = fleet.StateFailed
	default:
		r.State = fleet.StateWaiting
	}
	for _, i := range unproven {
		if r.Error == "" && i.State == r.State {
			r.Error, r.Kind = i.Error, i.Kind
		}
	}
	if len(l.Images) > 1 {
		r.Images = unproven[:min(len(unproven), fleet.MaxReported)]
	}
	return r
}

// judged is how an image stands.
type judged struct {
	fleet.ImageState
	unasked bool // no job of this session has proven it
}

// judgeImage says how an image of a set stands. It is proven only by a job.
func (p *prover) judgeImage(ctx context.Context, name string, l local, set keep.Set, pinned fleet.Image) judged {
	ref := pinnedRef(pinned)
	s := judged{ImageState: fleet.ImageState{Image: pinned.Image, State: fleet.StatePulling}}
	at := slices.IndexFunc(set.Images, func(i keep.SetImage) bool {
		return i.Image == ref && (pinned.Platform == "" || i.Platform == pinned.Platform)
	})
	if at < 0 {
		s.Error = "the set on this host does not name it yet"
		return s
	}
	i := set.Images[at]
	job, err := puller.Job{}, error(nil)
	if i.Job != "" {
		job, err = p.o.Service.Job(i.Job)
	}
	known := i.Job != "" && err == nil
	switch i.State {
	case keep.SetPresent:
		if !known || job.State != puller.StateSucceeded || job.Result == nil || job.Result.Digest != pinned.Digest {
			s.Error, s.unasked = "it is there, and a job is to prove it", !set.Refreshes
			if known && job.State == puller.StateSucceeded && job.Result != nil {
				s.Digest = job.Result.Digest
			}
			return s
		}
		if err := p.tag(ctx, name, l, pinned); err != nil {
			s.State, s.Error, s.Kind = fleet.StateFailed, err.Error(), puller.KindOf(err)
			return s
		}
		s.State = fleet.StateProven
	case keep.SetPulling, keep.SetMissing:
		if s.Error = i.Reason; !set.Refreshes && i.State == keep.SetMissing && set.NextRun.After(time.Now()) && set.LastRun.IsZero() {
			s.State, s.Error = fleet.StateWaiting, "until its window opens at "+set.NextRun.Format(time.RFC3339)
		}
	default:
		s.State, s.Error, s.Kind = fleet.StateFailed, i.Reason, puller.ErrInternal
		if known && job.Error != nil {
			s.Kind = job.Error.Kind
		}
		// Rules may have changed since it was taken.
		if _, err := p.o.Service.CheckPrewarm(puller.PrewarmRequest{Images: puller.Images{{Image: ref, Platform: pinned.Platform}}}); puller.KindOf(err) == puller.ErrForbidden {
			s.Kind, s.Error = puller.ErrForbidden, err.Error()
		}
		if s.Kind == puller.ErrForbidden {
			s.State = fleet.StateRefused
		}
	}
	return s
}

// tag puts the name that the set has for an image to the digest that was proven. It looks from
// time to time whether the name is still there.
func (p *prover) tag(ctx context.Context, name string, l local, pinned fleet.Image) error {
	n := names.ParseName(pinned.Image)
	if n.Tag == "" || n.Digest != "" || time.Since(l.tagged[pinned.Image]) < tagAgainAfter {
		return nil
	}
	if p.table.yields(name, pinned) {
		return nil // the two would move the name in turns
	}
	ctx, cancel := context.WithTimeout(ctx, tagLimit)
	defer cancel()
	here, err := p.o.Service.Image(ctx, pinned.Image, pinned.Platform, nil)
	if err != nil || !here.HasDigest(n.Repository, pinned.Digest) {
		if kind := puller.KindOf(err); kind == puller.ErrEngineUnavailable && !l.tagged[pinned.Image].IsZero() {
			return nil // it was there
		}
		if err := p.o.Tagger.Tag(ctx, n.Repository+"@"+pinned.Digest, pinned.Image); err != nil {
			return fmt.Errorf("the name %s could not be put to the image: %w", pinned.Image, err)
		}
		p.o.Log.WithFields(logrus.Fields{"set": name, "image": pinned.Image, "digest": pinned.Digest}).Info("the name of an image was put to what the fleet has pinned")
	}
	p.table.update(name, l.Generation, func(l *local) {
		if l.tagged == nil {
			l.tagged = make(map[string]time.Time)
		}
		l.tagged[pinned.Image] = time.Now()
	})
	return nil
}
