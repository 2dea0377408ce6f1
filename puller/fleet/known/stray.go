package known

import (
	"strings"
	"time"

	"github.com/towline/towline/puller/fleet"
)

const (
	maxStrays = 100 // of a host, that are removed one by one
	maxKey    = 255 // bytes of a key that is
	// strayAfter is how old a report is of a set that is not its host's before it is removed:
	// the record that makes the host a member comes another way, and may come later.
	strayAfter = 10 * time.Second
)

// Strayed notes a report that belongs to no set of its host, so that it is removed.
func (m *Model) Strayed(key string) {
	id, _, _ := strings.Cut(key, ".")
	if fleet.CheckHost(id) != nil {
		return // it may be a wildcard, which would remove reports of others
	}
	keys, known := m.strays[id]
	if !known && len(m.strays) >= MaxHosts {
		return
	}
	if len(key) > maxKey || len(keys) >= maxStrays {
		keys = []string{fleet.ReportKey(id, ">")}
	} else if len(keys) != 1 || keys[0] != fleet.ReportKey(id, ">") {
		keys = append(keys, key)
	}
	m.strays[id] = keys
}

// Strays returns keys of reports that are to be removed, of as many hosts, and forgets them.
// Of a host that has written many it is one key for all, which ends with a wildcard: the host
// says what is true again.
func (m *Model) Strays(hosts int) (keys []string) {
	for id, some := range m.strays {
		if hosts--; hosts < 0 {
			break
		}
		keys = append(keys, some...)
		delete(m.strays, id)
	}
	return keys
}

// Expire looks which hosts are not heard any more, and which reports are of sets that their
// hosts are not to have. It reports whether something follows from it.
func (m *Model) Expire(liveFor time.Duration) (news bool) {
	for id, h := range m.Hosts {
		if h.Live && time.Since(h.Heard) >= liveFor {
			h.Live = false
			h.Touched = m.Touch()
			news = true
		}
		if h.Clone != "" && time.Since(h.Cloned) >= 2*time.Minute {
			h.Clone = ""
			h.Touched = m.Touch()
		}
		for set, r := range h.Reports {
			if time.Since(r.At) < strayAfter || h.Entry(set) != nil {
				continue
			}
			if s := m.Sets[set]; s == nil || !h.Matches(id, set, s) {
				delete(h.Reports, set)
				m.Strayed(fleet.ReportKey(id, set))
			}
		}
	}
	return news
}
