package stream

import (
	"strconv"
	"sync"
)

// batchSize is about how many bytes of numbered events a batch has at most, and
// as many of layers, and as many of output. An event that is larger is a batch
// of its own.
const batchSize = 64 << 10

// A Batch is the events that a reader gets at once. Readers at the same position
// share it. So its frames are encoded once per format for all of them. Its
// methods may be called from anywhere. What they return must not be changed.
type Batch struct {
	frames []Frame

	mu      sync.Mutex
	encoded []encoding
}

// encoding is a batch in one format.
type encoding struct {
	format   *Format
	chunk    []byte
	from, to int // the events in it
}

// NewBatch returns a batch of frames.
func NewBatch(frames ...Frame) *Batch { return &Batch{frames: frames} }

// Frames returns the events, in order.
func (b *Batch) Frames() []Frame { return b.frames }

// Bytes returns the events in a format, for readers of a job. It is empty where
// the format has no place for any of them. All readers of one batch read the
// same job.
func (b *Batch) Bytes(format *Format, job string) []byte {
	e := b.encode(format, job)
	return e.chunk[e.from:e.to:e.to]
}

// Chunk is Bytes as one chunk of HTTP's chunked coding (RFC 9112, 7.1), for
// callers that write to a connection. It is empty for no events: an empty chunk
// would be the last.
func (b *Batch) Chunk(format *Format, job string) []byte { return b.encode(format, job).chunk }

func (b *Batch) encode(format *Format, job string) encoding {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.encoded {
		if e.format == format {
			return e
		}
	}
	const room = 16 + 2 // of the largest size in hexadecimal digits
	size := room
	for i := range b.frames {
		size += len(b.frames[i].data) + 128
	}
	raw := make([]byte, room, size)
	for i := range b.frames {
		raw = format.Append(raw, &b.frames[i], job)
	}
	e := encoding{format: format}
	if n := len(raw) - room; n > 0 {
		head := append(strconv.AppendInt(nil, int64(n), 16), "\r\n"...)
		raw = append(raw, "\r\n"...)
		copy(raw[room-len(head):], head)
		e.chunk, e.from, e.to = raw[room-len(head):], len(head), len(head)+n
	}
	b.encoded = append(b.encoded, e)
	return e
}
