package puller

import (
	"time"

	"github.com/towline/towline/stream"
)

// Event is one thing that happened to a job, in the form of the API. Which
// fields it has follows from Type.
type Event struct {
	// Seq numbers states, notices, logs and results; layers and heartbeats
	// have none. It grows through the daemon's whole life.
	Seq  uint64    `json:"seq,omitempty"`
	Time time.Time `json:"time"`
	Type string    `json:"type"` // state, layer, notice, result or heartbeat
	Job  string    `json:"job"`

	State   State `json:"state,omitempty"` // state
	Phase   Phase `json:"phase,omitempty"`
	Attempt int   `json:"attempt,omitempty"`

	Layer    *stream.Layer  `json:"layer,omitempty"` // layer
	Progress *stream.Totals `json:"progress,omitempty"`

	Message string `json:"message,omitempty"` // notice
	// RetryAfterSeconds is, in the notice of a cool-down, how long it still is.
	RetryAfterSeconds float64 `json:"retry_after_seconds,omitempty"`

	Result *Job `json:"result,omitempty"` // result: the whole job
}

func newFrame(e Event) stream.Frame {
	e.Time = time.Now().UTC()
	return stream.NewFrame(e.Seq, e.Type, e)
}

func stateFrame(seq uint64, v *Job) stream.Frame {
	return newFrame(Event{Seq: seq, Type: "state", Job: v.ID, State: v.State, Phase: v.Phase, Attempt: v.Attempt})
}

func noticeFrame(seq uint64, id, message string, wait time.Duration) stream.Frame {
	return newFrame(Event{Seq: seq, Type: "notice", Job: id, Message: message, RetryAfterSeconds: wait.Seconds()})
}

func resultFrame(seq uint64, v *Job) stream.Frame {
	return newFrame(Event{Seq: seq, Type: "result", Job: v.ID, Result: v})
}

// layerFrame leaves the job open: all jobs of a transfer share it.
func layerFrame(l stream.Layer, t *stream.Totals) stream.Frame {
	return newFrame(Event{Type: "layer", Layer: &l, Progress: t})
}

// HeartbeatFrame returns what a reader of the job is told while nothing
// happens, so that nothing on the way takes the connection for dead.
func HeartbeatFrame(id string) stream.Frame {
	return newFrame(Event{Type: "heartbeat", Job: id})
}
