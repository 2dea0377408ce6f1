package transfer

import (
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// move changes where the transfer is, and tells the members.
func (t *transfer) move(change func(*Phase)) {
	t.mu.Lock()
	t.at.Number++
	change(&t.at)
	at, members := t.at, slices.Clone(t.members)
	t.mu.Unlock()
	for _, m := range members {
		m.sub.Phase(at)
	}
}

// begin starts an attempt: its progress begins at nothing.
func (t *transfer) begin(absent bool) {
	t.totals.Store(&pullstream.Totals{})
	t.timings.Store(&puller.Timings{})
	if t.latest != nil {
		t.table.opts.Events.Hide(t.latest)
	}
	t.latest = stream.NewLatest(t.table.opts.Numbers)
	t.move(func(p *Phase) {
		t.absent, t.layers = absent, nil
		p.State, p.Phase, p.Attempt, p.Layers = puller.StateActive, puller.PhaseResolving, p.Attempt+1, t.latest
	})
	t.name()
}

// enter moves the transfer to a phase.
func (t *transfer) enter(phase puller.Phase) {
	if t.at.Phase != phase { // only run's goroutine writes it
		t.move(func(p *Phase) { p.Phase = phase })
	}
}

// hide has the secrets of what the engine is shown taken out of all that the
// members' jobs tell.
func (a *attempt) hide(secrets *redact.Redactor) {
	if secrets != nil {
		a.move(func(p *Phase) { p.Secrets = secrets })
	}
}

// post tells what became of a layer.
func (t *transfer) post(l pullstream.Layer, totals pullstream.Totals) {
	t.totals.Store(&totals)
	t.latest.Set(l.ID, puller.LayerFrame(l, &totals))
	posted := numberedLayer{t.table.posted.Add(1), l}
	t.mu.Lock()
	if i := slices.IndexFunc(t.layers, func(known numberedLayer) bool { return known.ID == l.ID }); i >= 0 {
		t.layers[i] = posted
	} else {
		t.layers = append(t.layers, posted)
	}
	batched := t.batched
	t.mu.Unlock()
	for _, m := range batched {
		m.sub.Layer(posted.number, l)
	}
}

// notice tells the members' readers something; wait is as in Subscriber.Notice.
func (t *transfer) notice(message string, wait time.Duration) {
	t.mu.Lock()
	members := slices.Clone(t.members)
	t.mu.Unlock()
	for _, m := range members {
		m.sub.Notice(message, wait)
	}
}
