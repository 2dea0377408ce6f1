// Package rules decides which images may be requested.
package rules

import (
	"fmt"
	"slices"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/platforms"
)

// Rules implement puller.Rules. Pull applies to all jobs, since the image of a run is
// pulled first. Run applies to runs in addition. A nil Set forbids nothing.
type Rules struct{ Pull, Run *Set }

// Check implements puller.Rules.
func (r Rules) Check(kind puller.JobKind, named reference.Named, p puller.PullRequest) error {
	if err := r.Pull.check(named, p); err != nil || kind != puller.JobRun {
		return err
	}
	return r.Run.check(named, p)
}

// CheckName implements puller.Rules.
func (r Rules) CheckName(named reference.Named) error { return r.Pull.checkName(named) }

// Parse checks the rules for pulls and for runs. Errors call them name.pull and
// name.run. It returns nil if they forbid nothing.
func Parse(name string, pull, run Written) (puller.Rules, error) {
	var r Rules
	var err error
	if r.Pull, err = ParseSet(name+".pull", pull); err != nil {
		return nil, err
	}
	if r.Run, err = ParseSet(name+".run", run); err != nil {
		return nil, err
	}
	if r == (Rules{}) {
		return nil, nil
	}
	return r, nil
}

// Set is a list of rules that ParseSet has checked. It never changes, and is safe for
// concurrent use.
type Set struct {
	name        string
	allow, deny []pattern
	digest      bool
	policies    []puller.Policy
	platforms   []string
}

// Written are rules as a file has them: the configuration, or the token file. A field
// that is left out forbids nothing.
//
// Allow and Deny hold patterns, NAME[:TAG][@DIGEST]. Each part is a glob that is matched
// with the same part of a reference in full form. "*" matches any characters except a
// slash, "**" any characters, and "?" one character except a slash. An image that Deny
// matches is forbidden, even if Allow matches it.
//
// If a reference has a digest, its tag does not decide what is pulled. So a pattern of
// Allow with a tag and without a digest never matches such a reference. A pattern of
// Deny does.
type Written struct {
	Allow         []string `mapstructure:"allow" yaml:"allow"`
	Deny          []string `mapstructure:"deny" yaml:"deny"`
	RequireDigest bool     `mapstructure:"require_digest" yaml:"require_digest"`
	Policies      []string `mapstructure:"policies" yaml:"policies"`
	// Platforms are os/arch[/variant]. One without a variant allows each variant.
	// DefaultPlatform allows requests that name no platform.
	Platforms []string `mapstructure:"platforms" yaml:"platforms"`
}

// DefaultPlatform stands in Written for requests that name no platform.
const DefaultPlatform = "default"

// ParseSet checks rules. The error begins with name and the field at fault. It returns
// nil if there are no rules.
func ParseSet(name string, w Written) (*Set, error) {
	r := &Set{name: name, digest: w.RequireDigest}
	for _, list := range []struct {
		field string
		from  []string
		to    *[]pattern
	}{{"allow", w.Allow, &r.allow}, {"deny", w.Deny, &r.deny}} {
		for _, written := range list.from {
			p, err := parsePattern(written)
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %q %w", name, list.field, puller.Clip(written), err)
			}
			*list.to = append(*list.to, p)
		}
	}
	for _, written := range w.Policies {
		p, err := puller.ParsePolicy(written)
		if err != nil {
			return nil, fmt.Errorf("%s.policies: %w", name, puller.Inner(err))
		}
		r.policies = append(r.policies, p)
	}
	for _, platform := range w.Platforms {
		if platform != DefaultPlatform {
			whole, err := platforms.Parse(platform, "")
			if err != nil {
				return nil, fmt.Errorf("%s.platforms: %q is not known; write os/arch[/variant], or %s for requests that name none", name, puller.Clip(platform), DefaultPlatform)
			}
			platform = whole
		}
		r.platforms = append(r.platforms, platform)
	}
	if len(r.allow)+len(r.deny)+len(r.policies)+len(r.platforms) == 0 && !r.digest {
		return nil, nil
	}
	return r, nil
}

// check returns why a request is refused, nil if it is allowed. The request must have
// its defaults. named is nil if the request has an image ID. The error is ErrForbidden
// and names the rule.
func (r *Set) check(named reference.Named, p puller.PullRequest) error {
	if r == nil {
		return nil
	}
	if named == nil && len(r.allow)+len(r.deny) > 0 {
		return puller.Errorf(puller.ErrForbidden, "%s: an image ID has no name that %s.allow and %s.deny can match; request a reference", p.Image, r.name, r.name)
	}
	if named != nil {
		if err := r.checkName(named); err != nil {
			return err
		}
	}
	_, digested := named.(reference.Digested)
	switch {
	case r.digest && !digested:
		return puller.Errorf(puller.ErrForbidden, "%s: %s.require_digest requires a digest; write NAME@sha256:…", puller.Clip(p.Image), r.name)
	case len(r.policies) > 0 && !slices.Contains(r.policies, p.Policy):
		return puller.Errorf(puller.ErrForbidden, "%s: the policy %s is not in %s.policies, which has %s", puller.Clip(p.Image), p.Policy, r.name, puller.Listed(r.policies))
	case len(r.platforms) > 0 && !slices.ContainsFunc(r.platforms, func(allowed string) bool {
		if p.Platform == "" || allowed == DefaultPlatform {
			return p.Platform == "" && allowed == DefaultPlatform
		}
		return names.MatchPlatform(p.Platform, allowed)
	}):
		platform := "platform " + p.Platform
		if p.Platform == "" {
			platform = "engine's own platform, where none is named,"
		}
		return puller.Errorf(puller.ErrForbidden, "%s: the %s is not in %s.platforms, which has %s", puller.Clip(p.Image), platform, r.name, puller.Listed(r.platforms))
	}
	return nil
}

// checkName checks the name, tag and digest of a reference in full form.
func (r *Set) checkName(named reference.Named) error {
	if r == nil {
		return nil
	}
	var tag, digest string
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		digest = d.Digest().String()
	}
	names := deniedNames(named)
	for _, p := range r.deny {
		if p.match(names, tag, digest) {
			return puller.Errorf(puller.ErrForbidden, "%s: %s.deny forbids %s", puller.Clip(named.String()), r.name, p.written)
		}
	}
	if len(r.allow) == 0 {
		return nil
	}
	names = allowedNames(named)
	for _, p := range r.allow {
		if (digest == "" || p.tag == nil || p.digest != nil) && p.match(names, tag, digest) {
			return nil
		}
	}
	words := make([]string, len(r.allow))
	for i, p := range r.allow {
		words[i] = p.written
	}
	return puller.Errorf(puller.ErrForbidden, "%s: no pattern of %s.allow has it; there are %s", puller.Clip(named.String()), r.name, puller.Listed(words))
}
