package stream

import (
	"bytes"
	"encoding/json"

	"github.com/towline/towline/stream/outputlog"
)

// A Frame is one event, encoded once and shared by all its readers. They must
// not change it.
type Frame struct {
	// Seq is the event's number, 0 for those that are no part of the record
	// (layers and heartbeats).
	Seq uint64
	// Type is the event's type: "state", "layer", …
	Type string

	order uint64 // when it was published, in the Sequence's numbers
	data  []byte // the event as a JSON object
	job   int    // where in data a reader's job ID goes; 0: it is there already
}

// NewFrame encodes an event. The event's JSON is an object with the fields of
// the wire contract. A "job" field that is empty is filled in for each reader:
// so jobs that share a transfer share its frames. It panics for a value that has
// no JSON, such as a channel.
func NewFrame(seq uint64, typ string, event any) Frame {
	data, err := json.Marshal(event)
	if err != nil {
		panic("stream: an event that has no JSON: " + err.Error())
	}
	f := Frame{Seq: seq, Type: typ, data: data}
	const empty = `"job":""`
	if i := bytes.Index(data, []byte(empty)); i >= 0 {
		f.job = i + len(empty) - 1
	}
	return f
}

// Decode decodes the event's JSON into v. Its job may be empty.
func (f *Frame) Decode(v any) error { return json.Unmarshal(f.data, v) }

// appendData appends the event's JSON for a reader of the job.
func (f *Frame) appendData(dst []byte, job string) []byte {
	if f.job == 0 {
		return append(dst, f.data...)
	}
	dst = append(dst, f.data[:f.job]...)
	dst = append(dst, job...)
	return append(dst, f.data[f.job:]...)
}

// withJob returns the frame with the job filled in.
func (f *Frame) withJob(job string) Frame {
	filled := *f
	if f.job != 0 {
		filled.data, filled.job = f.appendData(make([]byte, 0, len(f.data)+len(job)), job), 0
	}
	return filled
}

// entry returns the frame in the form of an output log, and frameOf the reverse.
func (f *Frame) entry() outputlog.Entry {
	return outputlog.Entry{Order: f.order, Type: f.Type, Data: f.data, Job: f.job}
}

func frameOf(e outputlog.Entry) Frame {
	return Frame{Seq: e.Order, Type: e.Type, order: e.Order, data: e.Data, job: e.Job}
}

// size is about how much memory the frame takes, in bytes.
func (f *Frame) size() int { return len(f.data) + 100 }
