package puller

import (
	"time"

	"github.com/distribution/reference"
)

// Defaults are what requests get that leave something out, and what they are held to.
type Defaults struct {
	Policy  Policy
	Retries int
	Timeout time.Duration
	// Rules hold for every caller. Each may have their own beside them.
	Rules Rules // nil forbids nothing
	// VerifyAccess gives an image that is there only to those whose credentials the
	// registry accepts for it.
	VerifyAccess bool
	// OwnPlatform asks the engine for its platform, os/arch.
	OwnPlatform func() (string, error)
}

// Rules say which images may be asked for. nil forbids nothing.
type Rules interface {
	// Check returns why a request of a kind of job that has its defaults is refused, nil
	// if it is not. named is nil for an image ID. The error is ErrForbidden and names
	// the rule.
	Check(kind JobKind, named reference.Named, r PullRequest) error
	// CheckName is Check for an image that is only looked at.
	CheckName(named reference.Named) error
}

// Check returns why a request of a kind of job that has its defaults is refused by the
// daemon's rules or the caller's own.
func (d Defaults) Check(kind JobKind, named reference.Named, r PullRequest) error {
	for _, rules := range []Rules{d.Rules, r.Rules} {
		if rules == nil {
			continue
		}
		if err := rules.Check(kind, named, r); err != nil {
			return err
		}
	}
	return nil
}

// CheckName is Check for an image that is only looked at. own are the caller's rules.
func (d Defaults) CheckName(named reference.Named, own Rules) error {
	for _, rules := range []Rules{d.Rules, own} {
		if rules == nil {
			continue
		}
		if err := rules.CheckName(named); err != nil {
			return err
		}
	}
	return nil
}
