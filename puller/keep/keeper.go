// Package keep keeps images: sets, which pull them, and leases.
package keep

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/sets"
)

// Keeper is the puller.Keeper of a host, and its puller.Protector.
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
	_ puller.Keeper    = Keeper{}
	_ puller.Protector = Keeper{}
	_ puller.Protector = (*Gate)(nil)
)

// Run refreshes sets and ends leases until ctx ends.
func (k Keeper) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return k.allSets.Run(ctx) })
	group.Go(func() error { return k.allLeases.Run(ctx) })
	return group.Wait()
}

// Protections implements puller.Protector.
func (k Keeper) Protections(id string, names []string) []puller.Protection {
	return append(k.allSets.Protections(id, names), k.allLeases.Protections(id, names)...)
}

// Gate is a puller.Protector that is needed before the Keeper is there: jobs that go on
// after a restart may want space first. Until Open it protects every image.
type Gate struct{ keeper atomic.Pointer[Keeper] }

// Open has the gate say what a keeper says.
func (g *Gate) Open(k Keeper) { g.keeper.Store(&k) }

// Protections implements puller.Protector.
func (g *Gate) Protections(id string, names []string) []puller.Protection {
	if k := g.keeper.Load(); k != nil {
		return k.Protections(id, names)
	}
	return []puller.Protection{{Kind: puller.ProtectionSet, Name: "(sets are not read yet)", Protects: true}}
}
