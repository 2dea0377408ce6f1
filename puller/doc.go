// Package puller is the domain: jobs, requests, events, errors, and the interfaces of
// what Towline offers (Service) and of the registries that it asks (Registry). What an
// engine is asked is in puller/engines, what is stored in puller/store, and the words of
// keeping images are in puller/keep. The packages below do the work; DESIGN.md says how.
//
// The words that one must know:
//
//   - engine: dockerd, or Podman's compatible API
//   - reference, tag, digest, manifest, layer, platform: as in the OCI documents
//   - policy: when an image is pulled: always, missing, never or newer
//   - job: one caller's request. Its kind is pull, run or prewarm
//   - state: queued, active, succeeded, failed or canceled
//   - phase: what an active job is at
//   - work: what a job does
//   - child: a job that is part of a prewarm
//   - transfer: the engine's one pull that many jobs share
//   - subscriber: what a transfer knows of a job
//   - attempt: one try of a transfer
//   - proof: what an image must show before its pull is a success
//   - queue, ticket, slot: a transfer holds a ticket while it waits, and a slot while the engine fetches
//   - rank: a priority as a number
//   - cool-down: the time that a registry is left alone which limits the rate
//   - budget: how many jobs, and bytes of requests, one caller may have unended
//   - record: a job as the store keeps it
//   - event: one thing that happened to a job. Numbered events are never dropped
//   - snapshot: the present state, which a reader gets first
//   - topic, event log: what readers of one job, and of all jobs, are told
//   - notice: an event for people
package puller
