package keeper_test

import (
	"testing"

	"github.com/towline/towline/puller/keep/keeper"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/sets"
	"github.com/towline/towline/puller/storetest"
)

func TestGate(t *testing.T) {
	var g keeper.Gate
	if p := g.Protections("sha256:1", nil); len(p) != 1 || !p[0].Protects {
		t.Errorf("before it is open: %+v", p)
	}
	leases, err := lease.Open(lease.Options{Records: storetest.New().Records()})
	if err != nil {
		t.Fatal(err)
	}
	g.Open(keeper.New(new(sets.Sets), leases))
	if p := g.Protections("sha256:1", []string{"registry.test/web:v1"}); len(p) > 0 {
		t.Errorf("a keeper of nothing: %+v", p)
	}
}
