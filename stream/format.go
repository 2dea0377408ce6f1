package stream

// A Format is one way to write events. Packages may have formats of their own.
type Format struct {
	// Append appends an event for a reader of the job, or nothing where the
	// format has no place for it. It is called once for each frame of a Batch,
	// however many readers the batch has, and must not keep or change the frame.
	Append func(dst []byte, f *Frame, job string) []byte
}

// NDJSON is an event's JSON, one a line.
var NDJSON = &Format{Append: func(dst []byte, f *Frame, job string) []byte {
	return append(f.appendData(dst, job), '\n')
}}
