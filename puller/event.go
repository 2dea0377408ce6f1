package puller

import (
	"time"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/outputlog"
	"github.com/towline/towline/stream/pullstream"
)

// Event is one thing that happened to a job, or to an image beside the jobs, in the form
// of the API. Which fields it has follows from Type.
type Event struct {
	// Seq numbers states, notices, logs, results and images; layers and heartbeats
	// have none. It grows through the daemon's whole life, and over restarts.
	Seq  uint64    `json:"seq,omitempty"`
	Time time.Time `json:"time"`
	Type string    `json:"type"` // state, layer, notice, log, result, image or heartbeat
	Job  string    `json:"job"`

	State   State `json:"state,omitempty"` // state
	Phase   Phase `json:"phase,omitempty"`
	Attempt int   `json:"attempt,omitempty"`

	Layer    *pullstream.Layer  `json:"layer,omitempty"` // layer
	Progress *pullstream.Totals `json:"progress,omitempty"`

	Message string `json:"message,omitempty"` // notice
	// RetryAfterSeconds is, in the notice of a cool-down, how long it still is.
	RetryAfterSeconds float64 `json:"retry_after_seconds,omitempty"`

	Stream Output `json:"stream,omitempty"` // log: which output
	*outputlog.Text

	Result *Job `json:"result,omitempty"` // result: the whole job

	Image *ImageChange `json:"image,omitempty"` // image
}

func (e Event) Frame() stream.Frame { return stream.NewFrame(e.Seq, e.Type, e) }

func StateEvent(seq uint64, v *Job) Event {
	return Event{Seq: seq, Time: time.Now().UTC(), Type: "state", Job: v.ID, State: v.State, Phase: v.Phase, Attempt: v.Attempt}
}

func NoticeEvent(seq uint64, id, message string, wait time.Duration) Event {
	return Event{Seq: seq, Time: time.Now().UTC(), Type: "notice", Job: id, Message: message, RetryAfterSeconds: wait.Seconds()}
}

func ResultEvent(seq uint64, v *Job) Event {
	return Event{Seq: seq, Time: time.Now().UTC(), Type: "result", Job: v.ID, Result: v}
}

// LayerFrame leaves the job open: all jobs of a transfer share it.
func LayerFrame(l pullstream.Layer, t *pullstream.Totals) stream.Frame {
	return Event{Time: time.Now().UTC(), Type: "layer", Layer: &l, Progress: t}.Frame()
}

// MissedFrame is told in the place of output that is not there for a reader.
func MissedFrame(id string) stream.Frame {
	return NoticeEvent(0, id, "some of the output is not kept any more: more has come since than is kept", 0).Frame()
}

// HeartbeatFrame returns what a reader of the job is told while nothing
// happens, so that nothing on the way takes the connection for dead. Readers of
// all jobs are told it of none.
func HeartbeatFrame(id string) stream.Frame {
	return Event{Time: time.Now().UTC(), Type: "heartbeat", Job: id}.Frame()
}
