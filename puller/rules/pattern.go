package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// pattern is one of Written, taken apart. Of what is nil anything matches.
type pattern struct {
	written           string
	name, tag, digest *regexp.Regexp
}

// patternForm is what a pattern may be made of.
var patternForm = regexp.MustCompile(`^([A-Za-z0-9._:/*?\[\]-]*/)?([a-z0-9._*?-]+)(:[A-Za-z0-9._*?-]+)?(@[a-z0-9+._:*?-]+)?$`)

func parsePattern(written string) (p pattern, err error) {
	parts := patternForm.FindStringSubmatch(written)
	if parts == nil || len(written) > puller.MaxReference {
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
		if host == names.Hub && !strings.Contains(path, "/") && !strings.Contains(path, "**") {
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
		return names.CanonicalAddress(host)
	}
	host = strings.ToLower(host)
	name, port, err := names.SplitAddress(host)
	if err != nil || strings.ContainsAny(port, "*?") {
		return host, err
	}
	if port, err = names.CanonicalPort(port); port == "" {
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
	if address == names.Hub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return path
}

// allowedNames are the names, without tag and digest, by which a pattern of allow
// has a repository: in the canonical form, with or without the port 443.
func allowedNames(named reference.Named) []string {
	address := names.RegistryOf(named.String())
	all := []string{address}
	if host, port, _ := names.SplitAddress(address); port == "" {
		all = append(all, host+":443")
	}
	return withPath(all, pathOf(named, address))
}

// deniedNames are those by which a pattern of deny has it: also as it is written,
// by every name of Docker Hub, and where engines may go on to plain HTTP with
// port 80 or without it.
func deniedNames(named reference.Named) []string {
	address := names.RegistryOf(named.String())
	all := []string{address, strings.ToLower(reference.Domain(named))}
	if address == names.Hub {
		all = append(all, names.HubNames...)
	}
	for _, name := range slices.Clone(all) {
		switch host, port, _ := names.SplitAddress(name); port {
		case "":
			all = append(all, host+":443", host+":80")
		case "80":
			all = append(all, host)
		}
	}
	return withPath(all, pathOf(named, address))
}

func withPath(addresses []string, path string) []string {
	for i := range addresses {
		addresses[i] += "/" + path
	}
	return addresses
}
