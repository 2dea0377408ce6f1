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

// pattern is a parsed pattern of Written. A part that is nil matches anything.
type pattern struct {
	written           string
	name, tag, digest *regexp.Regexp
}

// patternForm is the syntax of a pattern.
var patternForm = regexp.MustCompile(`^([A-Za-z0-9._:/*?\[\]-]*/)?([a-z0-9._*?-]+)(:[A-Za-z0-9._*?-]+)?(@[a-z0-9+._:*?-]+)?$`)

func parsePattern(written string) (p pattern, err error) {
	parts := patternForm.FindStringSubmatch(written)
	if parts == nil || len(written) > puller.MaxReference {
		return p, errors.New("is no pattern; write NAME[:TAG][@DIGEST], such as docker.io/library/* or registry.example.com/team/**:v*")
	}
	if strings.Contains(written, "***") {
		return p, errors.New("has a wildcard that does not exist; write * for anything but a slash, or ** for anything")
	}
	host, path, _ := strings.Cut(parts[1]+parts[2], "/")
	switch {
	case path == "" && host == "**":
	case path == "" || !strings.ContainsAny(host, ".:*?") && host != "localhost":
		return p, errors.New("does not begin with a registry; write the name in full, such as docker.io/library/alpine")
	case path != strings.ToLower(path):
		return p, errors.New("has capital letters in its path; the paths of images have none")
	default:
		if host, err = patternAddress(host); err != nil {
			return p, fmt.Errorf("matches nothing: its registry %w", err)
		}
		if host == names.Hub && !strings.Contains(path, "/") && !strings.Contains(path, "**") {
			return p, fmt.Errorf("matches nothing: names there have two parts; write docker.io/library/%s, or docker.io/** for all of them", path)
		}
		if example := strings.NewReplacer("**", "x", "*", "x", "?", "x").Replace(path + parts[3]); !isName(example) {
			return p, fmt.Errorf("matches nothing: no image has a name such as %s", example)
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

// isName reports whether a registry may have an image under a path with a tag.
func isName(path string) bool {
	_, err := reference.ParseNormalizedNamed("registry.test/" + path)
	return err == nil
}

// patternAddress is names.CanonicalAddress for an address that may have wildcards.
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

// match reports whether the pattern matches one of the names of a repository, and its
// tag and digest.
func (p pattern) match(names []string, tag, digest string) bool {
	has := func(glob *regexp.Regexp, part string) bool {
		return glob == nil || part != "" && glob.MatchString(part)
	}
	return slices.ContainsFunc(names, p.name.MatchString) && has(p.tag, tag) && has(p.digest, digest)
}

// glob returns the regular expression of a glob. Go matches in linear time.
func glob(g string) *regexp.Regexp {
	g = regexp.QuoteMeta(g)
	return regexp.MustCompile(`\A` + strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`, `\?`, `[^/]`).Replace(g) + `\z`)
}

// pathOf returns the full path of a repository in its registry. Docker Hub's short
// names leave "library/" out.
func pathOf(named reference.Named, address string) string {
	path := reference.Path(named)
	if address == names.Hub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return path
}

// allowedNames returns the names of a repository that a pattern of Allow may match: the
// canonical form, with and without the port 443. They have no tag and no digest.
func allowedNames(named reference.Named) []string {
	address := names.RegistryOf(named.String())
	all := []string{address}
	if host, port, _ := names.SplitAddress(address); port == "" {
		all = append(all, host+":443")
	}
	return withPath(all, pathOf(named, address))
}

// deniedNames returns the names that a pattern of Deny may match. There are more of
// them: the name as it is written, each name of Docker Hub, and the name with and
// without port 80, since engines may fall back to plain HTTP.
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
