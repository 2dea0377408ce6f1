package puller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/towline/towline/stream"
)

// Watch returns what the readers of a job are told: its present state and what
// follows. With since, it is what came after that number. The error is
// ErrNotFound.
func (p *Puller) Watch(id string, since *uint64) ([]stream.Frame, *stream.Subscription, error) {
	var topic *stream.Topic
	if j := p.live(id); j != nil {
		topic = j.topic
	} else {
		r, err := p.kept(id)
		if err != nil {
			return nil, nil, err
		}
		topic = stream.NewTopic(&p.seq)
		if r.Run != nil {
			p.play(topic, &r)
		}
		topic.End(r.Frames()...)
	}
	if since != nil && *since <= p.seq.Last() {
		frames, sub := topic.Resume(*since)
		return frames, sub, nil
	}
	frames, sub := topic.Subscribe()
	if since != nil {
		frames = append([]stream.Frame{BehindFrame(id, *since)}, frames...)
	}
	return frames, sub, nil
}

// keptEvents is how much is kept in memory of what the readers of all jobs are
// told, in bytes, and as much of output.
const keptEvents = 4 << 20

// keptEnded is of how many jobs that ended before a start their events are told
// to readers of all jobs who come back, and of how many bytes of records.
const (
	keptEnded      = 250
	keptEndedBytes = 16 << 20
)

// WatchAll is Watch for the jobs of a kind and with an image, or of any where
// they are "". It is the present state of those that have not ended, with their
// layers, and what follows. What the jobs of one transfer share is told in the
// name of one of them. With since, it is what came after that number; a reader
// whose place is not kept any more is told so in a notice, and gets the present
// state. The error is ErrInvalidRequest and names the field.
func (p *Puller) WatchAll(kind, image string, since *uint64) ([]stream.Frame, *stream.LogSubscription, error) {
	f := Filter{Kind: JobKind(kind), Image: image}
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	match := func(a *stream.About) bool {
		return (f.Kind == "" || a.Kind == string(f.Kind)) && (f.Image == "" || a.Image == f.Image)
	}
	missed := func() stream.Frame { return MissedFrame("") }
	var frames []stream.Frame
	if since != nil {
		layers, l, err := p.hub.Resume(match, missed, *since)
		if err == nil {
			return layers, l, nil
		}
		frames = append(frames, BehindFrame("", *since))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	layers, at, l := p.hub.Listen(match, missed)
	for _, j := range p.order {
		if !j.view.State.Ended() && match(j.about()) {
			frames = append(frames, j.topic.State(at)...)
		}
	}
	slices.SortStableFunc(frames, func(a, b stream.Frame) int { return cmp.Compare(a.Seq, b.Seq) })
	return append(frames, layers...), l, nil
}

// about is the job for those who watch many.
func (j *job) about() *stream.About {
	return &stream.About{Job: j.id, Kind: string(j.view.Kind), Image: j.view.Image}
}

// recall has the hub know what was told before a start, as far as it is kept, and the
// proofs what was proven.
// floor is the last number that was given then.
func (p *Puller) recall(floor uint64, unended []Record) {
	ended, err := p.store.Last(keptEnded, keptEndedBytes)
	switch {
	case err != nil:
		p.log.WithError(err).Warn("what was told before is not known to readers of all jobs who come back")
		return
	case len(ended) > 0:
		// Those that ended before it may be there, or not.
		if e := ended[0].Events; len(e) > 0 {
			floor = e[len(e)-1].Seq
		}
	case len(unended) > 0:
		floor = 0 // none has ended yet
	}
	var frames []stream.Frame
	var about []*stream.About
	for _, r := range append(ended, unended...) {
		p.proofs.learn(r.Job)
		a := &stream.About{Job: r.Job.ID, Kind: string(r.Job.Kind), Image: r.Job.Image}
		for _, f := range r.Frames() {
			frames, about = append(frames, f), append(about, a)
		}
	}
	p.hub.Restore(floor, frames, about)
}

// MissedFrame is told in the place of output that is not there for a reader.
func MissedFrame(id string) stream.Frame {
	return NoticeEvent(0, id, "some of the output is not kept any more: more has come since than is kept", 0).Frame()
}

// BehindFrame is told before the present state to a reader whose place is not
// kept.
func BehindFrame(id string, since uint64) stream.Frame {
	return NoticeEvent(0, id, fmt.Sprintf("what followed event %d is not kept any more; this is the present state", since), 0).Frame()
}

// HeartbeatFrame returns what a reader of the job is told while nothing
// happens, so that nothing on the way takes the connection for dead. Readers of
// all jobs are told it of none.
func HeartbeatFrame(id string) stream.Frame {
	return Event{Time: time.Now().UTC(), Type: "heartbeat", Job: id}.Frame()
}

// ShutdownFrame returns what readers of all jobs are told last.
func ShutdownFrame() stream.Frame {
	return NoticeEvent(0, "", "towline is shutting down; the jobs go on when it is back", 0).Frame()
}
