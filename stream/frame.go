package stream

import (
	"bytes"
	"encoding/json"
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

// A Format is how events are written.
type Format int

// The formats.
const (
	NDJSON Format = iota // an event's JSON, one a line
	SSE                  // server-sent events
	Docker               // the lines of the Docker Engine API's own pull stream
	formats
)

// A Frame is one event, encoded once and shared by all its readers, who must
// not change it.
type Frame struct {
	// Seq is the event's number, 0 for those that are no part of the record
	// (layers and heartbeats).
	Seq uint64
	// Type is the event's type: "state", "layer", …
	Type string

	order  uint64 // when it was published, in the Sequence's numbers
	data   []byte // the event as a JSON object
	job    int    // where in data a reader's job ID goes; 0: it is there already
	docker []byte // the event in Docker's lines
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

// InDocker returns the frame with what Docker's own stream has for the event;
// where this is not called, that is nothing.
func (f Frame) InDocker(lines []byte) Frame {
	f.docker = lines
	return f
}

// Decode decodes the event's JSON into v. Its job may be left open.
func (f *Frame) Decode(v any) error { return json.Unmarshal(f.data, v) }

// Append appends the event in a format, as told to a reader of the job.
func (f *Frame) Append(dst []byte, format Format, job string) []byte {
	switch format {
	case SSE:
		// JSON as it is encoded has no line ends.
		dst = appendSSE(dst, f.Seq, f.Type)
		return append(f.appendData(dst, job), "\n\n"...)
	case Docker:
		return append(dst, f.docker...)
	}
	return append(f.appendData(dst, job), '\n')
}

// appendData appends the event's JSON, as told to a reader of the job.
func (f *Frame) appendData(dst []byte, job string) []byte {
	if f.job == 0 {
		return append(dst, f.data...)
	}
	dst = append(dst, f.data[:f.job]...)
	dst = append(dst, job...)
	return append(dst, f.data[f.job:]...)
}

// named returns the frame as it is told to readers of a job.
func (f *Frame) named(job string) Frame {
	named := *f
	if f.job != 0 {
		named.data, named.job = f.appendData(make([]byte, 0, len(f.data)+len(job)), job), 0
	}
	return named
}
