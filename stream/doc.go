// Package stream reads what a Docker engine says while it pulls, and tells
// any number of readers about it.
//
// Data walks one way through it: bytes, Decoder, Message, Progress, Topic,
// and out through an encoder as NDJSON, server-sent events or the lines of
// Docker's own stream. The package starts no goroutine, owns no connection and
// imports the standard library only.
package stream
