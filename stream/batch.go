package stream

import (
	"strconv"
	"sync/atomic"
)

// A Batch is what readers are told at one wake-up. Those who are at the same
// place share it, so its frames are encoded once per format for all of them.
// Its methods may be called from anywhere; nobody may change what they return.
type Batch struct {
	frames []Frame
	forms  [formats]atomic.Pointer[form]
}

// form is a batch in one format.
type form struct {
	chunk    []byte
	from, to int // the events in it
}

// NewBatch returns a batch of frames.
func NewBatch(frames ...Frame) *Batch { return &Batch{frames: frames} }

// Frames returns what is told, in order.
func (b *Batch) Frames() []Frame { return b.frames }

// Bytes returns the events in a format, as told to readers of a job; none where
// nothing of it has a place in the format. All who read a batch read the same
// job.
func (b *Batch) Bytes(format Format, job string) []byte {
	f := b.form(format, job)
	return f.chunk[f.from:f.to:f.to]
}

// Chunk is Bytes as one chunk of HTTP's chunked coding (RFC 9112, 7.1), for who
// writes to a connection: none for no events, as an empty chunk is the last.
func (b *Batch) Chunk(format Format, job string) []byte { return b.form(format, job).chunk }

func (b *Batch) form(format Format, job string) *form {
	if f := b.forms[format].Load(); f != nil {
		return f
	}
	const room = 16 + 2 // of the largest size in hexadecimal digits
	size := room
	for i := range b.frames {
		size += len(b.frames[i].data) + len(b.frames[i].docker) + 128
	}
	raw := make([]byte, room, size)
	for i := range b.frames {
		raw = b.frames[i].Append(raw, format, job)
	}
	f := new(form)
	if n := len(raw) - room; n > 0 {
		head := append(strconv.AppendInt(nil, int64(n), 16), "\r\n"...)
		raw = append(raw, "\r\n"...)
		copy(raw[room-len(head):], head)
		*f = form{chunk: raw[room-len(head):], from: len(head), to: len(head) + n}
	}
	b.forms[format].Store(f)
	return f
}
