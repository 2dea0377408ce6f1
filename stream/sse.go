package stream

import (
	"strconv"
	"time"
)

// Server-sent events are of the HTML standard's section of that name. An
// event's data is one line of JSON, which has no line ends, and its type is one
// of ours, so nothing in them needs to be escaped.

// appendSSE appends the fields of an event that stand before its JSON: id, of
// numbered events only, and event.
func appendSSE(dst []byte, seq uint64, typ string) []byte {
	if seq != 0 {
		dst = append(dst, "id: "...)
		dst = append(strconv.AppendUint(dst, seq, 10), '\n')
	}
	dst = append(dst, "event: "...)
	dst = append(dst, typ...)
	return append(dst, "\ndata: "...)
}

// AppendRetry appends what has a reader of server-sent events wait for d before
// it connects again.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	return append(strconv.AppendInt(dst, d.Milliseconds(), 10), "\n\n"...)
}
