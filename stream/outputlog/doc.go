// Package outputlog keeps what a run's program prints in a log on disk, in the
// form of entries that carry an event each. It imports the standard library
// only.
package outputlog
