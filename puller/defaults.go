package puller

import "time"

// Defaults are what requests get that leave something out, and what they are held to.
type Defaults struct {
	Policy  Policy
	Retries int
	Timeout time.Duration
	// Rules hold for every caller. Each may have their own beside them.
	Rules Rules
	// VerifyAccess gives an image that is there only to those whose credentials the
	// registry accepts for it.
	VerifyAccess bool
	// OwnPlatform asks the engine for its platform, os/arch.
	OwnPlatform func() (string, error)
}
