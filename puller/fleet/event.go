package fleet

import (
	"time"

	"github.com/towline/towline/stream"
)

// The types of events.
const (
	EventSet     = "set"     // a set is new, or its counts, rollout or generation have changed
	EventMember  = "member"  // a set stands otherwise on a member
	EventHost    = "host"    // a host is new, came or went
	EventRemoved = "removed" // a set, or a host, is forgotten
	EventLink    = "link"    // this daemon's link has changed
)

// Event is one thing that happened in a fleet, in the form of the API. Events have no number:
// a reader that comes back gets the present state.
type Event struct {
	Time time.Time `json:"time"`
	Type string    `json:"type"`
	// Name is the set of EventMember, and of EventRemoved.
	Name       string       `json:"name,omitempty"`
	Generation uint64       `json:"generation,omitempty"` // of EventMember
	Set        *Set         `json:"set,omitempty"`        // without its members
	Member     *MemberState `json:"member,omitempty"`
	Host       *Host        `json:"host,omitempty"` // of EventRemoved, with its ID alone
	Link       *Link        `json:"link,omitempty"`
}

// Frame encodes the event.
func (e Event) Frame() stream.Frame { return stream.NewFrame(0, e.Type, e) }
