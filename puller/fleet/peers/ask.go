package peers

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/tree"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/sharing"
)

// barredFor is how long a registry is believed not to give an image to this host, in what
// others ask for.
const barredFor = 15 * time.Second

// least is how many bytes of a chunk a host must bring within timing.patience.
const least = 256 << 10

// hangs is after how long a host that has sent nothing counts as one that hangs.
const hangs = time.Second

// want is something that this host wants of an image.
type want struct {
	image sharing.Image
	key   string // of its flight
	seed  uint64 // of the tree
	// there reports whether it is here.
	there func() bool
	// try asks a host for it, and returns how many bytes have come. only has it give what
	// it has, and bring nothing.
	try func(ctx context.Context, g fleet.Group, m fleet.Member, only bool) (int64, error)
	// registry asks the registry for it.
	registry func(ctx context.Context) error
}

// bring asks one host after another for something, and the registry where this host is the
// one to do so, or no other one can give it. Before that it asks the next host for what that
// one has: the others may have taken this host for dead, or it has just come back. It ends: each turn of its loop takes a host out,
// or takes time, which is bounded for each host, or has brought bytes.
func (n *Node) bring(ctx context.Context, w want) error {
	left, busy, strange := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	var busySince, strangeSince time.Time
	var host string // that is asked, since when, and what it has brought since
	var since time.Time
	var got int64
	looked := false // whether the next host has it
	defer n.bringing.Delete(w.key)
	n.await(ctx, w.image)
	for ctx.Err() == nil {
		if w.there() {
			return nil
		}
		var m fleet.Member
		g, ok := n.o.Groups.Group(w.image.Repository, w.image.Digest)
		skip := func(host string) bool { return left[host] || busy[host] || strange[host] || n.standing.Avoids(host) }
		if ok {
			m, ok = tree.Parent(g.Members, g.Self, w.seed, skip)
		}
		if !ok && len(strange) > 0 && time.Since(strangeSince) > n.timing.strange {
			for host := range strange {
				n.standing.Avoid(host, tree.AvoidStrange)
			}
			clear(strange)
		}
		if !ok && (len(strange) > 0 || len(busy) > 0 && time.Since(busySince) < n.timing.busy) {
			clear(busy)
			clear(strange)
			sleep(ctx, n.timing.pause+rand.N(n.timing.pause))
			continue
		}
		only := false
		if ok {
			n.bringing.Delete(w.key)
		} else {
			n.bringing.Store(w.key, true)
		}
		if !ok && !looked {
			m, ok = tree.Next(g.Members, g.Self, w.seed, skip)
			only = ok
		}
		if !ok {
			if _, other := tree.Parent(g.Members, g.Self, w.seed, func(string) bool { return false }); other {
				n.metrics.fallbacks.Inc()
			}
			err := w.registry(ctx)
			if err != nil && ctx.Err() == nil && isRegistry(err) {
				n.bringing.Delete(w.key)
				return n.bringFromAny(ctx, w, err)
			}
			return err
		}
		if m.Host != host {
			host, since, got = m.Host, time.Now(), 0
		}
		asking, cancel := ctx, context.CancelFunc(func() {})
		if only {
			asking, cancel = context.WithTimeout(ctx, n.timing.look)
		}
		asked := time.Now()
		more, err := w.try(asking, g, m, only)
		late := asking.Err() != nil
		cancel()
		got += more
		looked = looked || only && err != nil && !errors.Is(err, wire.ErrWaiting)
		var keep wire.KeepError
		switch {
		case ctx.Err() != nil, late && err != nil:
		case errors.As(err, &keep):
			return keep.Unwrap()
		case err == nil, errors.Is(err, wire.ErrWaiting):
			n.standing.Answers(m.Host)
			if time.Since(since) > n.timing.patience {
				if got < least && !w.there() {
					left[m.Host], looked = true, true
					n.avoid(m, tree.AvoidSlow, wire.ErrSlow)
				}
				since, got = time.Now(), 0
			}
		case only && (errors.Is(err, wire.ErrBusy) || errors.Is(err, wire.ErrStrange)):
			n.standing.Answers(m.Host)
		case errors.Is(err, wire.ErrBusy):
			n.standing.Answers(m.Host)
			if busySince.IsZero() {
				busySince = time.Now()
			}
			busy[m.Host] = true
		case errors.Is(err, wire.ErrStrange):
			n.standing.Answers(m.Host)
			if strangeSince.IsZero() {
				strangeSince = time.Now()
			}
			strange[m.Host] = true
		case errors.Is(err, wire.ErrRefused):
			n.standing.Answers(m.Host)
			left[m.Host] = true
		case errors.Is(err, wire.ErrSlow):
			left[m.Host] = true
			n.avoid(m, tree.AvoidSlow, err)
		case errors.Is(err, wire.ErrLie):
			left[m.Host] = true
			n.metrics.bad.WithLabelValues(m.Host).Inc()
			n.avoid(m, tree.AvoidBad, err)
		default:
			// One that ends at once may come back, and bring the chunk itself.
			left[m.Host] = time.Since(asked) > hangs
			if n.standing.Dead(m.Host) {
				n.logOf(m).WithError(err).Info("a host of the fleet does not answer; others are asked")
			}
		}
		if more == 0 && !w.there() && (err == nil || errors.Is(err, wire.ErrWaiting)) {
			sleep(ctx, n.timing.pause)
		}
	}
	return context.Cause(ctx)
}

// isRegistry reports whether an error is the registry's, so that other hosts may get what
// this one does not.
func isRegistry(err error) bool {
	switch puller.KindOf(err) {
	case puller.ErrDenied, puller.ErrNotFound, puller.ErrRateLimited, puller.ErrRegistryUnavailable, puller.ErrStalled, puller.ErrTruncated:
		return true
	}
	return false
}

// bringFromAny asks all hosts for what they have of something that the registry does not
// give this one. They bring nothing for it, as they may wait for this host. This host brings
// nothing from that registry for others meanwhile, so that they choose another one.
func (n *Node) bringFromAny(ctx context.Context, w want, why error) error {
	until := time.Now().Add(max(barredFor, n.timing.others))
	n.barred.Add(w.image, until)
	n.missed.Add(w.key, until)
	defer n.missed.Remove(w.key)
	n.o.Log.WithError(why).WithField("image", w.image.Repository+"@"+w.image.Digest).Info("the registry does not give an image of the fleet to this host; other hosts are asked for what they have")
	for began := time.Now(); time.Since(began) < n.timing.others && ctx.Err() == nil; sleep(ctx, n.timing.pause) {
		g, _ := n.o.Groups.Group(w.image.Repository, w.image.Digest)
		for _, at := range rand.Perm(len(g.Members)) {
			m := g.Members[at]
			if m.Host == g.Self || m.Address == "" || n.standing.Avoids(m.Host) {
				continue
			}
			_, err := w.try(ctx, g, m, true)
			var keep wire.KeepError
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case w.there():
				return nil
			case errors.As(err, &keep):
				return keep.Unwrap()
			case errors.Is(err, wire.ErrLie):
				n.metrics.bad.WithLabelValues(m.Host).Inc()
				n.avoid(m, tree.AvoidBad, err)
			case err != nil && !errors.Is(err, wire.ErrWaiting) && !errors.Is(err, wire.ErrBusy) && !errors.Is(err, wire.ErrStrange) && !errors.Is(err, wire.ErrRefused):
				n.standing.Dead(m.Host)
			}
		}
	}
	return why
}

// isBarred reports whether something comes from no registry here: this host has asked it in
// vain, or it would be the one to ask and has not got other parts of the image lately.
func (n *Node) isBarred(i sharing.Image, key, digest string, index int) bool {
	if until, ok := n.missed.Get(key); ok && time.Now().Before(until) {
		return true
	}
	until, ok := n.barred.Get(i)
	return ok && time.Now().Before(until) && n.brings(i, digest, index)
}

// avoid has a host not asked for a while, and logs why.
func (n *Node) avoid(m fleet.Member, d time.Duration, why error) {
	if n.standing.Avoid(m.Host, d) {
		n.logOf(m).WithError(why).Warnf("a host of the fleet is not asked for %s", d)
	}
}

func (n *Node) logOf(m fleet.Member) logrus.FieldLogger {
	return n.o.Log.WithFields(logrus.Fields{"peer": m.Host, "address": m.Address})
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
