package stream

import (
	"strconv"
	"time"
)

// SSE is server-sent events, of the HTML standard's section of that name. An
// event's data is one line of JSON, which has no line ends, and its type is one
// of ours. So nothing in them needs to be escaped.
var SSE = &Format{Append: func(dst []byte, f *Frame, job string) []byte {
	if f.Seq != 0 {
		dst = append(dst, "id: "...)
		dst = append(strconv.AppendUint(dst, f.Seq, 10), '\n')
	}
	dst = append(dst, "event: "...)
	dst = append(dst, f.Type...)
	dst = append(dst, "\ndata: "...)
	return append(f.appendData(dst, job), "\n\n"...)
}}

// AppendRetry appends the field that makes a reader of server-sent events wait
// for d before it connects again.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	return append(strconv.AppendInt(dst, d.Milliseconds(), 10), "\n\n"...)
}
