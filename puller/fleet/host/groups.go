package host

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/names"
)

// group is with whom this host shares a set.
type group struct {
	fleet.Group
	images []fleet.Image
	askAt  time.Time // when it is asked for again
	asked  int       // how often for this generation
}

const (
	askLimit = 2 * time.Second
	// While a set is pulled, hosts come and go with each wave.
	askBusy = 10 * time.Second
	askRest = 5 * time.Minute
)

var _ fleet.Groups = (*Host)(nil)

// Group implements [fleet.Groups].
func (h *Host) Group(repository, digest string) (fleet.Group, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	found, name := (*group)(nil), ""
	for set, g := range h.groups {
		// Of several sets, all hosts take the same one.
		if (found == nil || set < name) && g.names(repository, digest) {
			found, name = g, set
		}
	}
	if found == nil {
		return fleet.Group{}, false
	}
	return found.Group, true
}

// Keyed implements fleet.Groups.
func (h *Host) Keyed(set string, generation uint64, repository, digest string) (fleet.Group, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[set]
	if g == nil || g.Generation != generation || !g.names(repository, digest) {
		return fleet.Group{}, false
	}
	return g.Group, true
}

// names reports whether a set names an image, by its own digest or that of a platform.
func (g *group) names(repository, digest string) bool {
	for _, i := range g.images {
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

// ask asks with whom this host shares its sets, again and again.
func (h *Host) ask(ctx context.Context, conn *nats.Conn) error {
	for {
		for _, name := range h.dueGroups() {
			h.askOne(ctx, conn, name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// dueGroups returns the sets whose groups are to be asked for.
func (h *Host) dueGroups() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, l := range h.sets {
		g := h.groups[name]
		if l.Generation > 0 && l.put && (g == nil || g.Generation != l.Generation || !time.Now().Before(g.askAt)) {
			all = append(all, name)
		}
	}
	return all
}

// askNow asks for the group of a set before its images are pulled.
func (h *Host) askNow(ctx context.Context, name string) {
	if h.isJoined() {
		h.askOne(ctx, h.o.Link.Conn(), name)
	}
}

func (h *Host) askOne(ctx context.Context, conn *nats.Conn, name string) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var a fleet.Answer
	m, err := conn.RequestWithContext(ctx, h.names.Ask(h.o.Host), fleet.Encode(fleet.Question{Set: name}))
	if err == nil && len(m.Data) <= fleet.MaxAnswer {
		err = json.Unmarshal(m.Data, &a)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.sets[name]
	if l == nil {
		return
	}
	g := h.groups[name]
	if g == nil || g.Generation != l.Generation {
		g = &group{Group: fleet.Group{Set: name, Generation: l.Generation, Self: h.o.Host}, images: l.Images}
		h.groups[name] = g
	}
	wait := jitter(askRest)
	if l.report.State != fleet.StateProven {
		wait = jitter(min(askBusy, time.Second<<min(g.asked, 4)))
	}
	g.asked++
	g.askAt = time.Now().Add(wait)
	if err == nil && a.Group != nil && a.Group.Generation == l.Generation && a.Group.Set == name {
		g.Group = *a.Group
		g.Self = h.o.Host
	}
}
