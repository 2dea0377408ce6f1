// Package tree says which host a host asks for a chunk, and which ones it avoids.
package tree

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/towline/towline/puller/fleet"
)

// FanOut is how many hosts of its zone ask a host for a chunk, and how many zones.
const FanOut = 4

// place is a host's place in the order for a chunk: rendezvous hashing. Lower ones bring
// the chunk first.
type place struct {
	score uint64
	host  string
	at    int // among the members
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.score, other.score), cmp.Compare(p.host, other.host))
}

func placeOf(host string, seed uint64) place {
	x := uint64(0xcbf29ce484222325) // FNV-1a
	for i := range len(host) {
		x = (x ^ uint64(host[i])) * 0x100000001b3
	}
	x ^= seed
	x += 0x9e3779b97f4a7c15 // splitmix64: hashes that are near to each other must not stay so
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return place{score: x ^ x>>31, host: host}
}

// Parent returns whom a host asks for a chunk. ok is false where it asks the registry
// itself. Members that skip names are as if they were none.
//
// The members of a zone that have an address form a tree in the order of their places, in
// which each has up to FanOut children. The first of each zone form such a tree among
// themselves, and its first asks the registry. A parent always has a lower place than its
// child. That order needs no member list, so parents that hosts choose by different lists,
// or with different ones left out, still form no circle.
//
// A host without an address is asked by nobody. It comes after all others.
func Parent(members []fleet.Member, self string, seed uint64, skip func(host string) bool) (chosen fleet.Member, ok bool) {
	me, gives := fleet.Member{Host: self}, false
	for _, m := range members {
		if m.Host == self {
			me, gives = m, m.Address != ""
		}
	}
	own := placeOf(self, seed)
	var zone []place                // of this host's, before it
	first := make(map[string]place) // of each other zone
	for at, m := range members {
		if m.Host == self || m.Address == "" {
			continue
		}
		p := placeOf(m.Host, seed)
		p.at = at
		f, known := first[m.Zone]
		near := m.Zone == me.Zone
		if gives && p.compare(own) > 0 || !near && known && f.compare(p) < 0 || skip(m.Host) {
			continue
		}
		if near {
			zone = append(zone, p)
		} else {
			first[m.Zone] = p
		}
	}
	before := zone
	if len(before) == 0 {
		before = slices.Collect(maps.Values(first))
	}
	if len(before) == 0 {
		return fleet.Member{}, false
	}
	slices.SortFunc(before, place.compare)
	rank := (len(before) - 1) / FanOut
	if !gives {
		rank = int(own.score % uint64(len(before)))
	}
	return members[before[rank].at], true
}

// Next returns the member that would ask the registry for a chunk if a host, which does so,
// were none. It brings the chunk while the others do not know that the host is there.
func Next(members []fleet.Member, self string, seed uint64, skip func(host string) bool) (next fleet.Member, ok bool) {
	var first place
	for at, m := range members {
		if m.Host == self || m.Address == "" {
			continue
		}
		if p := placeOf(m.Host, seed); (!ok || p.compare(first) < 0) && !skip(m.Host) {
			p.at = at
			first, ok = p, true
		}
	}
	if !ok {
		return fleet.Member{}, false
	}
	return members[first.at], true
}

// Seed is what the order of hosts for a chunk depends on. A manifest is as one chunk.
func Seed(digest string, index int) uint64 {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(digest+"\x00"), uint64(index)))
	return binary.BigEndian.Uint64(sum[:])
}
