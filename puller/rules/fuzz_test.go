package rules

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
)

func FuzzRules(f *testing.F) {
	for _, s := range []string{"docker.io/library/*", "**", "**:latest", "a.b/**/c:v?@sha256:*", "[::1]:5000/x", "*/**"} {
		f.Add(s, "alpine:3.20")
	}
	f.Add("127.0.0.1:5000/**", "127.0.0.1:05000/x")
	f.Fuzz(func(t *testing.T, pattern, image string) {
		deny, err := ParseSet("r", Written{Deny: []string{pattern}})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("the message has outside text in it: %q", err)
			}
			return
		}
		// What a pattern matches is the same however the Hub is written.
		named, err := puller.ParseReference(image)
		if err != nil {
			return
		}
		rest, hub := strings.CutPrefix(named.String(), "docker.io/")
		if !hub {
			return
		}
		other, err := reference.ParseNormalizedNamed("index.docker.io:443/" + rest)
		if err != nil {
			return // too long by now
		}
		one, two := deny.checkName(named), deny.checkName(other)
		if (one == nil) != (two == nil) {
			t.Errorf("%q: %v, but written otherwise %v", pattern, one, two)
		}
	})
}
