// Package keeper makes one keep.Service of the sets and leases of a host.
package keeper

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/sets"
)

// Keeper is the keep.Service of a host, and its keep.Protector.
type Keeper struct {
	*allSets
	*allLeases
}

// With their own names, these would hide the methods Sets and Leases.
type (
	allSets   = sets.Sets
	allLeases = lease.Leases
)

// New returns the Keeper of sets and leases.
func New(s *sets.Sets, l *lease.Leases) Keeper { return Keeper{s, l} }

var (
	_ keep.Service   = Keeper{}
	_ keep.Protector = Keeper{}
	_ keep.Protector = (*Gate)(nil)
)

// Run refreshes sets and ends leases until ctx ends.
func (k Keeper) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return k.allSets.Run(ctx) })
	group.Go(func() error { return k.allLeases.Run(ctx) })
	return group.Wait()
}

// Protections implements keep.Protector.
func (k Keeper) Protections(id string, names []string) []keep.Protection {
	return append(k.allSets.Protections(id, names), k.allLeases.Protections(id, names)...)
}

// Gate is a keep.Protector that is needed before the Keeper is there: jobs that go on
// after a restart may want space first. Until Open it protects every image.
type Gate struct{ keeper atomic.Pointer[Keeper] }

// Open has the gate say what a keeper says.
func (g *Gate) Open(k Keeper) { g.keeper.Store(&k) }

// Protections implements keep.Protector.
func (g *Gate) Protections(id string, names []string) []keep.Protection {
	if k := g.keeper.Load(); k != nil {
		return k.Protections(id, names)
	}
	return []keep.Protection{{Kind: keep.ProtectionSet, Name: "(sets are not read yet)", Protects: true}}
}
