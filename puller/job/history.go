package job

import (
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/stream"
)

// history is what a job's readers are told. The job's lock guards it.
type history struct {
	topic   *stream.Topic
	events  []puller.Event // the numbered ones, oldest first
	notices int
	secrets *redact.Redactor
}

func newHistory(events *stream.EventLog, r Request) history {
	h := history{secrets: r.Secrets, events: r.Events}
	if r.Events == nil {
		h.topic = events.Topic()
	} else {
		record := store.Record{Job: r.View, Events: r.Events}
		h.topic = events.Topic(record.Frames()...)
	}
	for _, e := range r.Events {
		if e.Type == "notice" {
			h.notices++
		}
	}
	return h
}

// publish adds a numbered event.
func (h *history) publish(event func(seq uint64) puller.Event) {
	h.topic.Publish(func(seq uint64) stream.Frame {
		e := event(seq)
		h.events = append(h.events, e)
		return e.Frame()
	})
}

// These bound what one job's record keeps of an engine that says much, or of
// attempts that fail.
const (
	maxNotices = 100
	maxNotice  = 2 << 10 // bytes
)

// notice adds a notice of the job v. It returns false if there are too many.
func (h *history) notice(v *puller.Job, message string, wait time.Duration) bool {
	most := maxNotices + len(v.Children)
	switch h.notices++; {
	case h.notices > most:
		return false
	case h.notices == most:
		message = "there are more notices than are kept; the rest is left out"
	}
	message = puller.ClipTo(h.secrets.Text(message), maxNotice)
	h.publish(func(seq uint64) puller.Event { return puller.NoticeEvent(seq, v.ID, message, wait) })
	return true
}
