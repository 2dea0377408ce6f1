// Package puller is the domain: it takes jobs, shares one transfer among all
// jobs that want the same image, and calls a pull done only when it is proven.
//
// A Job is one caller's request. A transfer is the engine's one pull that many
// jobs share; it lives on a context of the daemon's own, so a caller who goes
// away takes nothing with them. A transfer ends early only when its last job
// is cancelled.
//
// A run is a job that goes on from a proven image to a container and its end; a
// prewarm is one that has jobs as children.
//
// The package declares what it needs of an engine (Engine), a registry
// (Registry) and a store (Store), and knows none. Jobs are accepted, and told
// to have ended, only when that is on disk.
//
// It starts one goroutine that writes to the store, one per transfer whose turn
// has come and one per run, and short ones that ask the engine what is there.
package puller
