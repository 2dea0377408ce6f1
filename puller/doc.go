// Package puller is the domain: it takes jobs, shares one transfer among all
// jobs that want the same image, and calls a pull done only when it is proven.
//
// A Job is one caller's request. A transfer is the engine's one pull that many
// jobs share; it lives on a context of the daemon's own, so a caller who goes
// away takes nothing with them. A transfer ends early only when its last job
// is cancelled.
//
// The package declares what it needs of an engine (Engine) and knows none.
// It starts one goroutine per transfer, and one per job for as long as it asks
// the engine whether the image is there.
package puller
