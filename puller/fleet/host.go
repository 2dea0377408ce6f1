package fleet

import "time"

// Host is a host of a fleet as the controllers know it, in the form of the API.
type Host struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`    // of its machine
	Version string `json:"version,omitempty"` // of its Towline
	// Platform is os/arch[/variant] of its engine.
	Platform string            `json:"platform,omitempty"`
	Labels   map[string]string `json:"labels"` // those that count, with LabelHost and LabelZone
	Zone     string            `json:"zone,omitempty"`
	Address  string            `json:"address,omitempty"` // of its peer endpoint, HOST:PORT
	Invited  bool              `json:"invited"`
	Live     bool              `json:"live"` // it is heard
	// Heard is when it was heard last, by the controller's clock.
	Heard time.Time `json:"heard,omitzero"`
	// Counts says how many sets are in each state there.
	Counts map[State]int `json:"counts"`
	// Error says what is wrong with the host: another one with its ID, or a bad record.
	Error string `json:"error,omitempty"`
}

// LinkState says how a host stands to its fleet.
type LinkState string

// The states of a link.
const (
	LinkOff     LinkState = "off"     // no fleet is configured
	LinkUp      LinkState = "up"      // NATS answers
	LinkAway    LinkState = "away"    // NATS does not answer: the host goes on alone
	LinkRefused LinkState = "refused" // NATS or the fleet refuses this host
)

// Link is how this host stands to its fleet, in the form of the API.
type Link struct {
	Fleet string    `json:"fleet,omitempty"` // its name
	Host  string    `json:"host,omitempty"`  // this one's ID
	State LinkState `json:"state"`
	// Reason says why it is away or refused, and what to do, for people.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"` // of State
	Server string    `json:"server,omitempty"`
	// Controller says that this daemon may change the fleet, and Leader which one acts.
	Controller bool   `json:"controller"`
	Leader     string `json:"leader,omitempty"`
	Hosts      int    `json:"hosts,omitempty"` // of a controller: those that are live
	Sets       int    `json:"sets,omitempty"`  // of a host: those that it is to have
}
