// Package requests checks what callers ask for, and fills in what they leave out.
package requests

import (
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/platforms"
)

// Defaults are what requests get that leave something out, and what they are held to.
type Defaults struct {
	Policy  puller.Policy
	Retries int
	Timeout time.Duration
	// Rules hold for every caller. Each may have their own beside them.
	Rules puller.Rules // nil forbids nothing
	// VerifyAccess gives an image that is there only to those whose credentials the
	// registry accepts for it.
	VerifyAccess bool
	// OwnPlatform asks the engine for its platform, os/arch.
	OwnPlatform func() (string, error)
}

// Check returns why a request of a kind of job that has its defaults is refused by the
// daemon's rules or the caller's own.
func (d Defaults) Check(kind puller.JobKind, named reference.Named, r puller.PullRequest) error {
	for _, rules := range []puller.Rules{d.Rules, r.Rules} {
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
func (d Defaults) CheckName(named reference.Named, own puller.Rules) error {
	for _, rules := range []puller.Rules{d.Rules, own} {
		if rules == nil {
			continue
		}
		if err := rules.CheckName(named); err != nil {
			return err
		}
	}
	return nil
}

// platform returns the platform of a request in the API's form.
func (d Defaults) platform(platform string) (string, error) {
	own := ""
	if _, err := platforms.Parse(platform, "linux/amd64"); err != nil {
		return "", err
	} else if !strings.Contains(platform, "/") {
		if own, err = d.OwnPlatform(); err != nil {
			return "", err
		}
	}
	return platforms.Parse(platform, own)
}
