// Package stream delivers events to any number of readers.
//
// A Topic has the events of one job, the EventLog those of all jobs. Both hold
// nothing for their readers: a reader is a position, a Subscription, and reads
// the next Batch when it has written the one before. Readers at the same
// position share a Batch, which is encoded once per Format. The package starts
// no goroutine (a timer publishes what a Latest has new) and imports the
// standard library only.
package stream
