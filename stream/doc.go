// Package stream tells events to any number of readers.
//
// What the readers of one job are told is its Topic; the EventLog is that of
// all jobs. Both are encoded once per format, as NDJSON, server-sent events or
// the lines of Docker's own stream. The package starts no goroutine (a timer
// publishes what a Latest has new) and imports the standard library only.
package stream
