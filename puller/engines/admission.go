package engines

import (
	"context"

	"github.com/towline/towline/puller"
)

// An Admission says whether the engine's disk has room for a pull. Its methods may be
// called from anywhere.
type Admission interface {
	// Admit returns when there is room for what a pull brings, and keeps that room until
	// release is called, once: with the image that the pull brought, or without an ID
	// after a failure. It may ask the registry, and have images removed. notice is
	// called with what the readers of the job are to know. The error is ErrNoSpace
	// with the figures, or the reason why ctx ended. Where it is not known what there
	// is or what is needed, the pull is admitted.
	Admit(ctx context.Context, p puller.Pull, notice func(string)) (release func(puller.Image), err error)
}
