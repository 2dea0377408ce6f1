package jobs

import (
	"fmt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// keptEvents is how much is kept in memory of what the readers of all jobs are told, in
// bytes, and as much of output.
const keptEvents = 4 << 20

// Watch implements puller.Service.
func (s *Service) Watch(id string, since *uint64) ([]stream.Frame, *stream.Subscription, error) {
	var topic *stream.Topic
	if e := s.table.Get(id); e != nil {
		topic = e.Topic()
	} else {
		r, err := s.kept(id)
		if err != nil {
			return nil, nil, err
		}
		topic = stream.NewTopic(&s.numbers)
		if r.Run != nil {
			s.outputs.Show(topic, &r)
		}
		topic.End(r.Frames()...)
	}
	if since != nil && *since <= s.numbers.Last() {
		frames, sub := topic.Resume(*since)
		return frames, sub, nil
	}
	frames, sub := topic.Subscribe()
	if since != nil {
		frames = append([]stream.Frame{behindFrame(id, *since)}, frames...)
	}
	return frames, sub, nil
}

// WatchAll implements puller.Service. It is the present state of the jobs that have not
// ended, with their layers, and what follows. What the jobs of one transfer share is
// told in the name of one of them. A reader whose place is not kept any more is told
// so in a notice, and gets the present state.
func (s *Service) WatchAll(kind, image string, since *uint64) ([]stream.Frame, *stream.LogSubscription, error) {
	f := puller.Filter{Kind: puller.JobKind(kind), Image: image}
	if kind == puller.ImageEvents {
		f.Kind = ""
	}
	if err := f.Check(); err != nil {
		return nil, nil, err
	}
	filter := stream.Filter{Kind: kind, Image: f.Image}
	missed := func() stream.Frame { return puller.MissedFrame("") }
	if since == nil {
		return nil, s.events.Subscribe(filter, missed), nil
	}
	if sub, err := s.events.Resume(filter, missed, *since); err == nil {
		return nil, sub, nil
	}
	return []stream.Frame{behindFrame("", *since)}, s.events.Subscribe(filter, missed), nil
}

// behindFrame is told before the present state to a reader whose place is not
// kept.
func behindFrame(id string, since uint64) stream.Frame {
	return puller.NoticeEvent(0, id, fmt.Sprintf("what followed event %d is not kept any more; this is the present state", since), 0).Frame()
}
