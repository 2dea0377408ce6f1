package puller

import "time"

// QueueState is which transfers fetch and which wait, in the form of GET /v1/queue. A
// transfer is one pull of the engine, whatever the number of jobs that want it.
type QueueState struct {
	// Slots is how many transfers may fetch at a time, PerRegistry how many from one
	// registry.
	Slots       int `json:"slots"`
	PerRegistry int `json:"per_registry"`
	// Fetching is how many have a slot. Unpacking is how many have given theirs back,
	// because the engine only unpacks.
	Fetching  int    `json:"fetching"`
	Unpacking int    `json:"unpacking"`
	Queued    Queued `json:"queued"`
	// Waiting are the transfers without a slot in the order of their admission, at most
	// MaxWaiting. Priorities and fairness between callers decide which is next.
	Waiting []WaitingTransfer `json:"waiting"`
	// Registries are those that a transfer wants something of, and those in a cool-down.
	Registries []RegistryState `json:"registries"`
}

// MaxWaiting is how many transfers a QueueState lists.
const MaxWaiting = 100

// Queued counts the transfers without a slot by priority.
type Queued struct {
	High   int `json:"high"`
	Normal int `json:"normal"`
	Low    int `json:"low"`
}

// All is how many transfers have no slot.
func (q Queued) All() int { return q.High + q.Normal + q.Low }

// WaitReason is what a transfer waits for.
type WaitReason string

// The reasons. Where there are several, it is the first of these.
const (
	WaitCoolDown      WaitReason = "cool_down"      // of its registry, for its login
	WaitRegistryLimit WaitReason = "registry_limit" // its registry has as many transfers as it may
	WaitOtherPlatform WaitReason = "other_platform" // another platform of the image is being pulled
	WaitPrewarmLimit  WaitReason = "prewarm_limit"  // prewarms leave a slot to others
	WaitSlots         WaitReason = "slots"          // all have transfers
)

// WaitingTransfer is a transfer without a slot.
type WaitingTransfer struct {
	Image    string     `json:"image"` // in full form
	Platform string     `json:"platform,omitempty"`
	Registry string     `json:"registry"`
	Priority Priority   `json:"priority"`
	Reason   WaitReason `json:"reason"`
	// Until is when the cool-down ends that the transfer waits for.
	Until time.Time `json:"until,omitzero"`
}

// RegistryState is what the queue knows of a registry.
type RegistryState struct {
	Registry string `json:"registry"` // its canonical address
	Fetching int    `json:"fetching"`
	Waiting  int    `json:"waiting"`
	// CoolDownUntil is when its last cool-down ends; the zero time where there is none.
	CoolDownUntil time.Time  `json:"cool_down_until,omitzero"`
	CoolDowns     []CoolDown `json:"cool_downs,omitempty"`
}

// CoolDown is a time in which a registry is asked for nothing, because it limits the
// rate. It holds for one login, or for pulls without one.
type CoolDown struct {
	Until time.Time `json:"until"`
	Login bool      `json:"login"` // it is of pulls with a caller's login
}
