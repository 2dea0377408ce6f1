package stream

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync/atomic"
)

// A Sequence numbers what happens in one daemon: every number is above all
// that were given before. Its methods may be called from anywhere.
type Sequence struct{ last atomic.Uint64 }

// Start makes the numbers go on after last. It is called before Next.
func (s *Sequence) Start(last uint64) { s.last.Store(last) }

// Last returns the number that was given last, 0 for none.
func (s *Sequence) Last() uint64 { return s.last.Load() }

// Next returns the next number, from 1.
func (s *Sequence) Next() uint64 { return s.last.Add(1) }

// A Frame is one event, encoded once and shared by all its readers, who must
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
// the wire contract; a "job" field that is empty is filled in for each reader,
// so that jobs that share a transfer share its frames. It panics for a value
// that has no JSON, such as a channel.
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

// Decode decodes the event's JSON into v. Its job may be left open.
func (f *Frame) Decode(v any) error { return json.Unmarshal(f.data, v) }

// appendData appends the event's JSON, as told to a reader of the job.
func (f *Frame) appendData(dst []byte, job string) []byte {
	if f.job == 0 {
		return append(dst, f.data...)
	}
	dst = append(dst, f.data[:f.job]...)
	dst = append(dst, job...)
	return append(dst, f.data[f.job:]...)
}

// AppendNDJSON appends the event as one line of newline-delimited JSON.
func (f *Frame) AppendNDJSON(dst []byte, job string) []byte {
	return append(f.appendData(dst, job), '\n')
}

// AppendSSE appends the event as a server-sent event: id (numbered events
// only), event and data.
func (f *Frame) AppendSSE(dst []byte, job string) []byte {
	id := ""
	if f.Seq != 0 {
		id = strconv.FormatUint(f.Seq, 10)
	}
	return AppendSSE(dst, id, f.Type, f.appendData(nil, job))
}
