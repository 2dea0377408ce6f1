// Package stream reads what a Docker engine says while it pulls, and tells
// any number of readers about it.
//
// Data walks one way through it: bytes, Decoder, Message, Progress, Topic,
// and out through an encoder as NDJSON, server-sent events or the lines of
// Docker's own stream. What one job's readers are told is its Topic; the EventLog is
// that of all jobs. The package starts no goroutine (a timer brings out what a
// Latest has new), owns no connection and imports the standard library only.
package stream
