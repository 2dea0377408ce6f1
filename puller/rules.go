package puller

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Rules say which images may be asked for. Pull's hold for everything, since
// what runs is pulled first; Run's hold for runs besides. nil forbids nothing.
type Rules struct{ Pull, Run *RuleSet }

// RuleSet is rules that were checked by ParseRules. It is not changed, and may be
// asked from anywhere.
type RuleSet struct {
	name        string
	allow, deny []pattern
	digest      bool
	policies    []Policy
	platforms   []string
}

// WrittenRules are rules as they stand in a file. What is left out forbids
// nothing.
//
// Allow and Deny hold patterns: NAME[:TAG][@DIGEST], each a glob over what a
// reference in full form has there. "*" stands for any characters but a slash,
// "**" for any at all and "?" for one that is no slash. What Deny matches is
// forbidden, also where Allow has it.
//
// A tag says nothing of what is pulled where a digest stands beside it. So a
// pattern of Allow that has a tag and no digest matches no such reference; one
// of Deny does.
type WrittenRules struct {
	Allow, Deny   []string
	RequireDigest bool
	Policies      []string
	// Platforms are os/arch[/variant], without a variant any; DefaultPlatform
	// lets requests pass that name none.
	Platforms []string
}

// DefaultPlatform stands in WrittenRules for requests that name no platform.
const DefaultPlatform = "default"

// ParseRules checks rules. name is what they are called in messages. The error
// begins with it and the field at fault. Without any rules it returns nil.
func ParseRules(name string, w WrittenRules) (*RuleSet, error) {
	r := &RuleSet{name: name, digest: w.RequireDigest}
	for _, list := range []struct {
		field string
		from  []string
		to    *[]pattern
	}{{"allow", w.Allow, &r.allow}, {"deny", w.Deny, &r.deny}} {
		for _, written := range list.from {
			p, err := parsePattern(written)
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %q %w", name, list.field, Clip(written), err)
			}
			*list.to = append(*list.to, p)
		}
	}
	for _, written := range w.Policies {
		p, err := ParsePolicy(written)
		if err != nil {
			return nil, fmt.Errorf("%s.policies: %w", name, Inner(err))
		}
		r.policies = append(r.policies, p)
	}
	for _, platform := range w.Platforms {
		if platform != DefaultPlatform {
			whole, err := ParsePlatform(platform, "")
			if err != nil {
				return nil, fmt.Errorf("%s.platforms: %q is not known; write os/arch[/variant], or %s for requests that name none", name, Clip(platform), DefaultPlatform)
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

// check returns why a request that has its defaults is refused, nil if it is not.
// named is nil of an image ID.
// The error is ErrForbidden and names the rule.
func (r *RuleSet) check(named reference.Named, p PullRequest) error {
	if r == nil {
		return nil
	}
	if named == nil && len(r.allow)+len(r.deny) > 0 {
		return Errorf(ErrForbidden, "%s: an image ID has no name that %s.allow and %s.deny could be held to; name a reference", p.Image, r.name, r.name)
	}
	if named != nil {
		if err := r.checkName(named); err != nil {
			return err
		}
	}
	_, digested := named.(reference.Digested)
	switch {
	case r.digest && !digested:
		return Errorf(ErrForbidden, "%s: %s.require_digest asks for a digest; name it, as in NAME@sha256:…", Clip(p.Image), r.name)
	case len(r.policies) > 0 && !slices.Contains(r.policies, p.Policy):
		return Errorf(ErrForbidden, "%s: the policy %s is not in %s.policies, which has %s", Clip(p.Image), p.Policy, r.name, Listed(r.policies))
	case len(r.platforms) > 0 && !slices.ContainsFunc(r.platforms, func(allowed string) bool {
		if p.Platform == "" || allowed == DefaultPlatform {
			return p.Platform == "" && allowed == DefaultPlatform
		}
		return MatchPlatform(p.Platform, allowed)
	}):
		platform := "platform " + p.Platform
		if p.Platform == "" {
			platform = "engine's own platform, where none is named,"
		}
		return Errorf(ErrForbidden, "%s: the %s is not in %s.platforms, which has %s", Clip(p.Image), platform, r.name, Listed(r.platforms))
	}
	return nil
}

// checkName is check for what a reference in full form names.
func (r *RuleSet) checkName(named reference.Named) error {
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
			return Errorf(ErrForbidden, "%s: %s.deny forbids %s", Clip(named.String()), r.name, p.written)
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
	return Errorf(ErrForbidden, "%s: no pattern of %s.allow has it; there are %s", Clip(named.String()), r.name, Listed(words))
}

// Listed names what a rule has, as far as a message takes it.
func Listed[T ~string](words []T) string {
	const most = 10
	all := make([]string, 0, most+1)
	for i, w := range words {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(words)-most))
			break
		}
		all = append(all, string(w))
	}
	return strings.Join(all, ", ")
}

// pattern is one of WrittenRules, taken apart. Of what is nil anything matches.
type pattern struct {
	written           string
	name, tag, digest *regexp.Regexp
}

// patternForm is what a pattern may be made of.
var patternForm = regexp.MustCompile(`^([A-Za-z0-9._:/*?\[\]-]*/)?([a-z0-9._*?-]+)(:[A-Za-z0-9._*?-]+)?(@[a-z0-9+._:*?-]+)?$`)

func parsePattern(written string) (p pattern, err error) {
	parts := patternForm.FindStringSubmatch(written)
	if parts == nil || len(written) > maxReference {
		return p, errors.New("is no pattern; write NAME[:TAG][@DIGEST], such as docker.io/library/* or registry.example.com/team/**:v*")
	}
	host, path, _ := strings.Cut(parts[1]+parts[2], "/")
	switch {
	case path == "" && host == "**":
	case path == "" || !strings.ContainsAny(host, ".:*?") && host != "localhost":
		return p, errors.New("does not begin with a registry; write the name in full, such as docker.io/library/alpine")
	case path != strings.ToLower(path):
		return p, errors.New("has capital letters in its path, which no image has")
	default:
		if host, err = patternAddress(host); err != nil {
			return p, fmt.Errorf("matches nothing: its registry %w", err)
		}
		if host == Hub && !strings.Contains(path, "/") && !strings.Contains(path, "**") {
			return p, fmt.Errorf("matches nothing: names there have two parts; write docker.io/library/%s, or docker.io/** for all of them", path)
		}
		path = "/" + path
	}
	p = pattern{written: written, name: glob(host + path)}
	if parts[3] != "" {
		p.tag = glob(parts[3][1:])
	}
	if parts[4] != "" {
		p.digest = glob(parts[4][1:])
	}
	return p, nil
}

// patternAddress is CanonicalAddress for what may have wildcards in it.
func patternAddress(host string) (string, error) {
	if !strings.ContainsAny(host, "*?") {
		return CanonicalAddress(host)
	}
	host = strings.ToLower(host)
	name, port, err := splitAddress(host)
	if err != nil || strings.ContainsAny(port, "*?") {
		return host, err
	}
	if port, err = canonicalPort(port); port == "" {
		return strings.TrimSuffix(name, "."), err
	}
	return strings.TrimSuffix(name, ".") + ":" + port, nil
}

// match reports whether one of a repository's names, and its tag and digest, are
// what the pattern has.
func (p pattern) match(names []string, tag, digest string) bool {
	has := func(glob *regexp.Regexp, part string) bool {
		return glob == nil || part != "" && glob.MatchString(part)
	}
	return slices.ContainsFunc(names, p.name.MatchString) && has(p.tag, tag) && has(p.digest, digest)
}

// glob makes a regular expression of a glob; Go's take linear time.
func glob(g string) *regexp.Regexp {
	g = regexp.QuoteMeta(g)
	return regexp.MustCompile(`\A` + strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`, `\?`, `[^/]`).Replace(g) + `\z`)
}

// pathOf returns a repository's path in its registry, in full: Docker Hub leaves
// "library" out.
func pathOf(named reference.Named, address string) string {
	path := reference.Path(named)
	if address == Hub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return path
}

// allowedNames are the names, without tag and digest, by which a pattern of allow
// has a repository: in the canonical form, with or without the port 443.
func allowedNames(named reference.Named) []string {
	address := RegistryOf(named.String())
	names := []string{address}
	if host, port, _ := splitAddress(address); port == "" {
		names = append(names, host+":443")
	}
	return withPath(names, pathOf(named, address))
}

// deniedNames are those by which a pattern of deny has it: also as it is written,
// by every name of Docker Hub, and where engines may go on to plain HTTP with
// port 80 or without it.
func deniedNames(named reference.Named) []string {
	address := RegistryOf(named.String())
	names := []string{address, strings.ToLower(reference.Domain(named))}
	if address == Hub {
		names = append(names, hubs...)
	}
	for _, name := range slices.Clone(names) {
		switch host, port, _ := splitAddress(name); port {
		case "":
			names = append(names, host+":443", host+":80")
		case "80":
			names = append(names, host)
		}
	}
	return withPath(names, pathOf(named, address))
}

func withPath(addresses []string, path string) []string {
	for i := range addresses {
		addresses[i] += "/" + path
	}
	return addresses
}

// checkPull returns why a pull is refused by any of the rules.
func checkPull(named reference.Named, p PullRequest, o Defaults) error {
	for _, r := range []Rules{o.Rules, p.Rules} {
		if err := r.Pull.check(named, p); err != nil {
			return err
		}
	}
	return nil
}

// checkRun is checkPull for a run's image.
func checkRun(named reference.Named, p PullRequest, o Defaults) error {
	for _, r := range []Rules{o.Rules, p.Rules} {
		for _, set := range []*RuleSet{r.Pull, r.Run} {
			if err := set.check(named, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckPull returns why a request that has its defaults is refused by any of the rules.
func (d Defaults) CheckPull(named reference.Named, p PullRequest) error {
	return checkPull(named, p, d)
}

// CheckName returns why an image of a name may not be looked at.
func (d Defaults) CheckName(named reference.Named, own Rules) error {
	if err := d.Rules.Pull.checkName(named); err != nil {
		return err
	}
	return own.Pull.checkName(named)
}
