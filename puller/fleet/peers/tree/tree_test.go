package tree_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/tree"
)

// hosts returns members in some zones.
func hosts(n, zones int) []fleet.Member {
	all := make([]fleet.Member, n)
	for i := range all {
		all[i] = fleet.Member{Host: fmt.Sprintf("host-%d", i), Zone: fmt.Sprintf("zone-%d", i%zones), Address: fmt.Sprintf("10.0.0.%d:7080", i)}
	}
	return all
}

func nobody(string) bool { return false }

// climb follows the parents of a host up to the registry.
func climb(t *testing.T, members []fleet.Member, self string, seed uint64, skip func(string) bool) (depth int) {
	t.Helper()
	for {
		m, ok := tree.Parent(members, self, seed, skip)
		if !ok {
			return depth
		}
		if depth++; depth > len(members) {
			t.Fatalf("%s asks in a circle", self)
		}
		self = m.Host
	}
}

func TestTree(t *testing.T) {
	for _, c := range []struct{ hosts, zones, depth int }{{1, 1, 0}, {2, 1, 1}, {8, 1, 2}, {8, 3, 4}, {200, 4, 8}, {1000, 1, 5}, {1000, 20, 9}} {
		t.Run(fmt.Sprintf("%d_in_%d", c.hosts, c.zones), func(t *testing.T) {
			members := hosts(c.hosts, c.zones)
			zone := make(map[string]string)
			for _, m := range members {
				zone[m.Host] = m.Zone
			}
			roots := make(map[string]int) // chunks by host
			chunks := 40
			if c.hosts > 8 {
				chunks = 1
			}
			for index := range chunks {
				s := tree.Seed("sha256:00", index)
				near, far := make(map[string]int), make(map[string]int) // children
				asks := 0                                               // the registry
				across := 0                                             // zones
				for at, m := range members {
					p, ok := tree.Parent(members, m.Host, s, nobody)
					switch {
					case !ok:
						asks++
						roots[m.Host]++
					case p.Zone == m.Zone:
						near[p.Host]++
					default:
						far[p.Host]++
						across++
					}
					if at%25 > 1 && c.hosts > 200 {
						continue
					}
					if depth := climb(t, members, m.Host, s, nobody); depth > c.depth {
						t.Fatalf("%s is %d hosts from the registry, not %d", m.Host, depth, c.depth)
					}
				}
				if asks != 1 || across != c.zones-1 {
					t.Fatalf("chunk %d: %d hosts ask the registry, %d another zone", index, asks, across)
				}
				for host := range zone {
					if near[host] > tree.FanOut || far[host] > tree.FanOut {
						t.Fatalf("chunk %d: %d hosts and %d zones ask %s", index, near[host], far[host], host)
					}
				}
			}
			if c.hosts == 8 {
				for host, n := range roots {
					if n > chunks/2 {
						t.Errorf("%s brings %d of %d chunks", host, n, chunks)
					}
				}
			}
		})
	}
}

func TestTreeWithoutSome(t *testing.T) {
	members := hosts(60, 5)
	for round := range 50 {
		random := rand.New(rand.NewPCG(uint64(round), 1))
		dead := make(map[string]bool)
		for range random.IntN(len(members)) {
			dead[members[random.IntN(len(members))].Host] = true
		}
		s, asks := random.Uint64(), 0
		for _, m := range members {
			if dead[m.Host] {
				continue
			}
			climb(t, members, m.Host, s, func(host string) bool { return dead[host] })
			if p, ok := tree.Parent(members, m.Host, s, func(host string) bool { return dead[host] }); !ok {
				asks++
			} else if dead[p.Host] {
				t.Fatalf("%s asks one that is left out", m.Host)
			}
		}
		if asks > 1 {
			t.Fatalf("%d hosts ask the registry", asks)
		}
	}
}

// Hosts that know different members, or leave out different ones, still ask in no circle.
func FuzzTree(f *testing.F) {
	f.Add(uint64(1), uint64(2), 12, 3)
	f.Fuzz(func(t *testing.T, seed, views uint64, n, zones int) {
		n, zones = 1+abs(n)%50, 1+abs(zones)%6
		members := hosts(n, zones)
		random := rand.New(rand.NewPCG(views, 2))
		view := func(host string) (known []fleet.Member) {
			for _, m := range members {
				if m.Host != host && random.IntN(4) == 0 {
					continue
				}
				if random.IntN(8) == 0 {
					m.Address = ""
				}
				if random.IntN(4) == 0 { // hosts may lie about their zones
					m.Zone = fmt.Sprint("zone-", random.IntN(zones))
				}
				known = append(known, m)
			}
			return known
		}
		parents := make(map[string]string)
		for _, m := range members {
			if m.Address == "" {
				continue
			}
			// What a host knows of itself is right: it gives.
			known := view(m.Host)
			for i := range known {
				if known[i].Host == m.Host {
					known[i] = m
				}
			}
			if p, ok := tree.Parent(known, m.Host, seed, func(string) bool { return random.IntN(5) == 0 }); ok {
				parents[m.Host] = p.Host
			}
		}
		for host := range parents {
			steps := 0
			for at, ok := host, true; ok; at, ok = parents[at] {
				if steps++; steps > n+1 {
					t.Fatalf("%s asks in a circle", host)
				}
			}
		}
	})
}

func abs(n int) int { return max(n, -(n + 1)) }

func TestTreeWithoutAddress(t *testing.T) {
	members := hosts(30, 2)
	for i := range 10 {
		members[i].Address = ""
	}
	asked := make(map[string]int)
	for index := range 50 {
		s := tree.Seed("sha256:01", index)
		for _, m := range append(members, fleet.Member{Host: "stranger"}) {
			p, ok := tree.Parent(members, m.Host, s, nobody)
			if ok && p.Address == "" || !ok && m.Address == "" {
				t.Fatalf("%s asks %q", m.Host, p.Host)
			}
			if m.Address == "" {
				asked[p.Host]++
			}
		}
	}
	if len(asked) < 20 {
		t.Errorf("only %d hosts are asked", len(asked))
	}
}
