// Package peers has the hosts of a fleet fetch chunks of blobs from each other, so that a
// registry serves each byte about once.
//
// For each chunk all hosts compute the same tree from the members of the group: whom each
// host asks, and who asks the registry (tree.go). Nothing is agreed on, and nothing is kept.
// A host that is asked for a chunk which it has not yet brings it, in the same way, and gives
// it while it arrives. A host always asks one that comes before it in an order that does not
// depend on who the members are, so hosts that know different members can't wait for each
// other in a circle.
package peers
