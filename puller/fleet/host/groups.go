package host

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/names"
)

// Groups are the groups of the sets that this host is to have. They are kept over a restart:
// a job that goes on after one begins before this host has joined its fleet. It implements
// fleet.Groups, and may be used from anywhere.
type Groups struct {
	fleet   string
	self    string // this host's ID
	records Records
	log     logrus.FieldLogger

	mu  sync.Mutex
	all map[string]*group // by set
}

// group is with whom this host shares a set.
type group struct {
	kept  keptGroup
	askAt time.Time // when it is asked for again
	asked int       // how often for this generation
	// reason is why there was no answer for this generation, as it was logged.
	reason string
}

// keptGroup is the record of a group.
type keptGroup struct {
	Group  fleet.Group   `json:"group"`
	Images []fleet.Image `json:"images"`
}

const (
	// While a set is pulled, hosts come and go with each wave.
	askBusy = 10 * time.Second
	askRest = 5 * time.Minute

	groupKind = "fleet-groups" // by fleet and set
)

var _ fleet.Groups = (*Groups)(nil)

// OpenGroups returns the groups that this host knew last in a fleet, under its ID. What can't
// be read is asked for again.
func OpenGroups(fleetName, self string, records Records, log logrus.FieldLogger) *Groups {
	g := &Groups{fleet: fleetName, self: self, records: records, log: log, all: make(map[string]*group)}
	values, err := records.Load(groupKind)
	if err != nil {
		log.WithError(err).Warn("with whom this host shares images can't be read; it is asked for again")
		return g
	}
	for key, value := range values {
		set, ok := strings.CutPrefix(key, g.key(""))
		var kept keptGroup
		if ok && json.Unmarshal(value, &kept) == nil && kept.Group.Set == set && kept.Group.Self == self {
			g.all[set] = &group{kept: kept}
		}
	}
	return g
}

func (g *Groups) key(set string) string { return g.fleet + "/" + set }

// Group implements [fleet.Groups].
func (g *Groups) Group(repository, digest string) (fleet.Group, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, name := (*group)(nil), ""
	for set, one := range g.all {
		// Of several sets, all hosts take the same one.
		if (found == nil || set < name) && one.kept.names(repository, digest) {
			found, name = one, set
		}
	}
	if found == nil {
		return fleet.Group{}, false
	}
	return found.kept.Group, true
}

// Keyed implements fleet.Groups.
func (g *Groups) Keyed(set string, generation uint64, repository, digest string) (fleet.Group, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[set]
	if one == nil || one.kept.Group.Generation != generation || !one.kept.names(repository, digest) {
		return fleet.Group{}, false
	}
	return one.kept.Group, true
}

// names reports whether a set names an image, by its own digest or that of a platform.
func (k *keptGroup) names(repository, digest string) bool {
	for _, i := range k.Images {
		if names.ParseName(i.Image).Repository != repository {
			continue
		}
		if i.Digest == digest {
			return true
		}
		for _, m := range i.Manifests {
			if m == digest {
				return true
			}
		}
	}
	return false
}

// due reports whether the group of a set's generation is to be asked for.
func (g *Groups) due(set string, generation uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[set]
	return one == nil || one.kept.Group.Generation != generation || !time.Now().Before(one.askAt)
}

// put takes an answer about the group of a set, nil where there is none. busy says that the
// set is not proven here.
func (g *Groups) put(s fleet.DesiredSet, answer *fleet.Group, busy bool) {
	g.mu.Lock()
	one := g.all[s.Set]
	if one == nil || one.kept.Group.Generation != s.Generation {
		one = &group{kept: keptGroup{fleet.Group{Set: s.Set, Generation: s.Generation, Self: g.self}, s.Images}}
		g.all[s.Set] = one
	}
	wait := jitter(askRest)
	if busy {
		wait = jitter(min(askBusy, time.Second<<min(one.asked, 4)))
	}
	one.asked++
	one.askAt = time.Now().Add(wait)
	before := fleet.Encode(one.kept)
	if answer != nil && answer.Generation == s.Generation && answer.Set == s.Set {
		one.kept.Group = *answer
		one.kept.Group.Self = g.self
	}
	after := fleet.Encode(one.kept)
	g.mu.Unlock()
	if bytes.Equal(before, after) {
		return
	}
	if err := g.records.Save(groupKind, map[string][]byte{g.key(s.Set): after}); err != nil {
		g.log.WithError(err).WithField("set", s.Set).Warn("with whom this host shares images can't be kept; it is asked for again after a restart")
	}
}

// refused notes why there is no answer about the group of a set, and reports whether that is
// new.
func (g *Groups) refused(set, reason string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[set]
	if one == nil || one.reason == reason {
		return false
	}
	one.reason = reason
	return true
}

// only forgets the groups of all other sets than some.
func (g *Groups) only(sets map[string]bool) {
	var gone []string
	g.mu.Lock()
	for set := range g.all {
		if !sets[set] {
			delete(g.all, set)
			gone = append(gone, g.key(set))
		}
	}
	g.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	slices.Sort(gone)
	if err := g.records.Delete(groupKind, gone); err != nil {
		g.log.WithError(err).Warn("groups of the fleet can't be forgotten")
	}
}
