package fleet

import "time"

// RolloutState says what a rollout is at.
type RolloutState string

// The states of a rollout. From RolloutPaused and RolloutStopped a resume leads on.
const (
	RolloutRunning  RolloutState = "running"  // a wave is released, and its members are waited for
	RolloutPausing  RolloutState = "pausing"  // until NextWave, or a resume
	RolloutPaused   RolloutState = "paused"   // by a call, or PauseManual
	RolloutStopped  RolloutState = "stopped"  // more members failed than MaxFailures
	RolloutCanceled RolloutState = "canceled" // by a call: the members that have not got it keep what they have
	RolloutDone     RolloutState = "done"     // every member may have it
)

// Ended reports whether nothing leads on from a state.
func (s RolloutState) Ended() bool { return s == RolloutDone || s == RolloutCanceled }

// Rollout is a rollout of a generation as it stands, in the form of the API.
type Rollout struct {
	State  RolloutState `json:"state"`
	Reason string       `json:"reason,omitempty"` // for people
	// Wave is the one that was released last, from 1 on. "wave" is that of the request.
	Wave     int `json:"wave_number"`
	Released int `json:"released"` // members that may have the generation
	Members  int `json:"members"`
	// Failures are members that failed or refused, of those that are released.
	Failures int       `json:"failures"`
	NextWave time.Time `json:"next_wave,omitzero"` // while it is pausing
	// What was asked for.
	RolloutRequest
}

// RolloutAction is what a call wants of a rollout.
type RolloutAction string

// The actions.
const (
	// ActionPause has no further member released. What is released goes on.
	ActionPause RolloutAction = "pause"
	// ActionResume releases the next wave. One that was stopped does not count the
	// failures before it again.
	ActionResume RolloutAction = "resume"
	// ActionCancel ends the rollout where it is.
	ActionCancel RolloutAction = "cancel"
)
