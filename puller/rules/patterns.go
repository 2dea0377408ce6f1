package rules

import (
	"fmt"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
)

// Patterns are patterns of the form of Written.Deny. They never change.
type Patterns struct{ all []pattern }

// ParsePatterns checks patterns. The error begins with name.
func ParsePatterns(name string, written []string) (Patterns, error) {
	var p Patterns
	for _, w := range written {
		one, err := parsePattern(w)
		if err != nil {
			return Patterns{}, fmt.Errorf("%s: %q %w", name, puller.Clip(w), err)
		}
		p.all = append(p.all, one)
	}
	return p, nil
}

// Match returns the first pattern that matches a reference in full form.
func (p Patterns) Match(image string) (written string, ok bool) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", false
	}
	var tag, digest string
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		digest = d.Digest().String()
	}
	names := deniedNames(named)
	for _, one := range p.all {
		if one.match(names, tag, digest) {
			return one.written, true
		}
	}
	return "", false
}
