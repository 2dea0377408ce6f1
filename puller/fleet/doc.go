// Package fleet has the words of a fleet: many hosts that run Towline, share a NATS account,
// and are to have the same images. The packages below it do the work; DESIGN.md says how.
//
//   - fleet: the hosts that share a name on one NATS
//   - host: a daemon in a fleet, with its engine
//   - controller: a daemon whose credentials let it change the fleet. One at a time acts
//   - set: images that hosts are to have, pinned to digests once for all hosts
//   - generation: numbers what a set was pinned to. It only grows
//   - member: a host that matches a set by its labels
//   - rollout: which members are to have a generation yet
//   - wave: the members that a rollout releases at a time
//   - report: what a host says of a set
//   - beat: what a host says of itself, again and again
//   - session: one run of a daemon in a fleet
//   - peer: a host that gives chunks of blobs to others
//   - group: the hosts that are to have an image, and share it
package fleet
