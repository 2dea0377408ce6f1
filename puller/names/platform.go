package names

import (
	"slices"
	"strings"
)

// Platforms that images are published for: GOOS and GOARCH values, as the OCI
// image specification asks for ("Image Index", platform).
var (
	knownOS   = []string{"linux", "windows", "freebsd", "darwin", "netbsd", "openbsd", "solaris", "aix", "illumos"}
	knownArch = map[string][]string{ // with the variants of each
		"386": nil, "loong64": nil, "mips": nil, "mipsle": nil, "mips64": nil, "mips64le": nil,
		"ppc64": nil, "ppc64le": nil, "riscv64": nil, "s390x": nil,
		"amd64": {"v1", "v2", "v3", "v4"},
		"arm":   {"v5", "v6", "v7", "v8"},
		"arm64": {"v8", "v9"},
	}
)

// IsOS reports whether images are published for an operating system.
func IsOS(name string) bool { return slices.Contains(knownOS, name) }

// Variants returns the variants of an architecture, and whether images are published for
// it.
func Variants(arch string) (variants []string, known bool) {
	variants, known = knownArch[arch]
	return variants, known
}

// MatchPlatform reports whether an image of one platform is what was asked
// for. A variant counts only where one was asked for.
func MatchPlatform(have, want string) bool {
	if want == "" {
		return true
	}
	h, w := strings.Split(have+"//", "/"), strings.Split(want+"//", "/")
	if h[0] != w[0] || h[1] != w[1] {
		return false
	}
	return w[2] == "" || plainVariant(h[1], h[2]) == plainVariant(w[1], w[2])
}

// MayMatchPlatform reports whether an image may be what was asked for, though the
// engine does not tell enough of its platform: Podman tells no variants, and the
// configurations of some images have none, or no architecture.
func MayMatchPlatform(have, want string) bool {
	h, w := strings.Split(have+"//", "/"), strings.Split(want+"//", "/")
	return (h[0] == w[0] || h[0] == "") && (h[1] == w[1] || h[1] == "") && h[2] == ""
}

// plainVariant gives an architecture's baseline one name: it is mostly left
// out (OCI image specification, "Platform Variants").
func plainVariant(arch, variant string) string {
	if variant == "" {
		switch arch {
		case "amd64":
			return "v1"
		case "arm":
			return "v7"
		case "arm64":
			return "v8"
		}
	}
	return variant
}

// FullPlatform gives a platform the one form that has a variant, if its
// architecture has any.
func FullPlatform(platform string) string {
	parts := strings.Split(platform+"//", "/")
	parts[2] = plainVariant(parts[1], parts[2])
	return strings.TrimRight(strings.Join(parts[:3], "/"), "/")
}

// ChoosePlatform returns the index of what an engine for a platform takes of
// those on offer, -1 for none: the platform itself, else the highest variant
// below it, else what the processor runs besides (containerd's platforms.Only,
// which engines choose with).
func ChoosePlatform(offers []string, platform string) int {
	parts := strings.Split(FullPlatform(platform)+"//", "/")
	below := func(arch, variant string) (takes []string) {
		takes = append(takes, FullPlatform(parts[0]+"/"+arch+"/"+variant))
		variants := knownArch[arch]
		for i := slices.Index(variants, variant) - 1; i >= 0; i-- {
			takes = append(takes, FullPlatform(parts[0]+"/"+arch+"/"+variants[i]))
		}
		return takes
	}
	takes := below(parts[1], parts[2])
	switch parts[1] {
	case "amd64":
		takes = append(takes, below("386", "")...)
	case "arm64":
		takes = append(takes, below("arm", "v8")...)
	}
	for _, want := range takes {
		if i := slices.IndexFunc(offers, func(have string) bool { return FullPlatform(have) == want }); i >= 0 {
			return i
		}
	}
	return -1
}
