package docker

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/towline/towline/puller"
)

// kindOfPull gives an engine's failure with an image its kind, by its words, and
// where they tell nothing by its type. unclear says that a registry has refused
// in words that tell nothing: the registry can be asked for its status.
func kindOfPull(err error, ref string) (kind puller.ErrorKind, unclear bool) {
	// A phrase that begins with ": " is also found at the beginning.
	message := ": " + strings.ToLower(withoutRef(err.Error(), ref))
	if kind, unclear := kindOfUnpacking(message); kind != "" {
		return kind, unclear
	}
	if kind := kindOfToldStatus(message); kind != "" {
		return kind, false
	}
	for _, row := range words {
		if row.re != nil && row.re.MatchString(message) {
			return row.kind, false
		}
		for _, phrase := range row.phrases {
			if strings.Contains(message, phrase) {
				return row.kind, false
			}
		}
	}
	if m := anyStatus.FindStringSubmatch(message); m != nil {
		if kind := kindOfDigits(m[1]); kind != "" {
			return kind, false
		}
	}
	if refusal.MatchString(message) {
		return puller.ErrRegistryUnavailable, true
	}
	return kindOfType(err), false
}

// toldStatus finds a registry's HTTP status where engines tell of it. What follows
// may be the answer's body, with any words in it.
var toldStatus = regexp.MustCompile(`(?:error parsing http|unexpected http status:?|request to \S+:|unexpected (?:head )?status code(?: \S+:)?|invalid status code from registry|statuscode:) ([45][0-9]{2})\b`)

// anyStatus finds a number that is called a status. It must not be found inside a
// digest or a port.
var anyStatus = regexp.MustCompile(`(?:status|code|http)[^0-9/]{0,24}(40[1-4]|41[02]|42[359]|451|5[0-9]{2})\b`)

// expired finds a storage's answer to a signed address that holds no longer. A
// registry signs a new one for the next request. The containerd image store does
// not tell the answer's body.
var expired = regexp.MustCompile(`request has expired|signature not valid in the specified time frame|<code>expiredtoken</code>|request to \S+[?&](?:x-amz-signature|x-goog-signature|signature|sig)=\S*: 403\b`)

// refusal finds what a registry says with a code that engines do not know. Graph
// drivers put "unknown" in the place of the code, the containerd image store the
// word "registry". Neither tells the status.
var refusal = regexp.MustCompile(`[:"] (?:unknown|unsupported): |error from registry: `)

func kindOfToldStatus(message string) puller.ErrorKind {
	m := toldStatus.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	kind := kindOfDigits(m[1])
	if kind == puller.ErrDenied && expired.MatchString(message) {
		return puller.ErrRegistryUnavailable
	}
	return kind
}

func kindOfDigits(digits string) puller.ErrorKind {
	status, _ := strconv.Atoi(digits)
	return puller.KindOfStatus(status)
}

// words maps what engines say to kinds; the first row that has one of its
// phrases in the lower-cased message, or whose expression matches, wins. A row
// names where its less obvious phrases were heard.
var words = []struct {
	kind    puller.ErrorKind
	phrases []string
	re      *regexp.Regexp
}{
	// An engine that was exchanged for another version (see Engine.renew), and
	// one that is called without the TLS it asks for.
	{kind: puller.ErrEngineUnavailable, phrases: []string{": client version", "client sent an http request to an https server"}},
	{kind: puller.ErrNoSpace, phrases: []string{"no space left on device", "disk quota exceeded", "not enough space", "no_space"}},
	// Something else removed from the engine's store what a pull had brought or
	// relied on: the next pull brings it again.
	{kind: puller.ErrTruncated, re: regexp.MustCompile(`failed to get layer .*does not exist|content digest sha256:[0-9a-f]+: not found|lease .*(?:does not exist|not found)|failed commit on ref .*rename |parent snapshot \S+ does not exist`)},
	// The containerd image store words a blob's 429 without the number.
	{kind: puller.ErrRateLimited, phrases: []string{"toomanyrequests", "too many requests", "rate limit", "ratelimit"}},
	{kind: puller.ErrPlatformMismatch, phrases: []string{
		"no matching manifest for", "no match for platform", "does not match the specified platform",
		"does not provide the specified platform", "does not provide any platform",
		"no image found in manifest list for", "no image found in image index for", // Podman
		"cannot be used on this platform", "operating system is not supported", "cannot download image with operating system",
	}},
	{kind: puller.ErrCorrupt, phrases: []string{
		"verification failed for digest", "failed size validation", "unexpected commit digest", "unexpected commit size", "unexpected digest",
		"digest did not match", "did not match expected digest", "digest mismatch", "does not match digest", "digest verification failed", "failed to verify digest",
		"don't match image configuration", "invalid rootfs in image configuration", "blob sum mismatch", "wrong diff id", "mismatched image rootfs",
		"invalid checksum", "checksum error", "invalid tar header", "gzip: invalid", "flate: corrupt", "archive/tar:",
		"unpigz: corrupted", "corrupt input", "magic number mismatch", "unexpected end of json input",
		"does not match provided manifest digest", "digest of source image's manifest would change", // Podman
	}},
	// Graph drivers keep one platform of an index under its digest.
	{kind: puller.ErrConflict, phrases: []string{"cannot overwrite digest"}},
	// What is there and is no image, and registries that answer 200 with what no
	// registry says: HTML, a token that is none.
	{kind: puller.ErrInvalidRequest, phrases: []string{
		"unsupported media type", "unexpected media type", "no longer supported since containerd", "schema 1 support", "schema 1 has been",
		"missing signature key", "invalid character '<' looking for beginning of value", "unsupported manifest format", "encountered remote ",
		"ai models are not yet supported", "is a reserved name", "reports content size of zero",
		"did not include a token", "unable to decode token response",
		"unsupported schema version", "exceeded maximum allowed size", "unsupported mime type", "unsupported docker v2s2 media type", "unsupported image-specific operation on artifact", // Podman
	}, re: regexp.MustCompile(`could not fetch content descriptor \S+ \(text/|rejecting [0-9]+ byte manifest`)},
	{kind: puller.ErrDenied, phrases: []string{
		"unauthorized", "authentication required", "no basic auth credentials", "authorization failed",
		"access denied", "access to the resource is denied", ": denied", "insufficient_scope", "forbidden",
		"incorrect username or password", "login attempt", "invalid username/password", "may require 'docker login'",
	}},
	{kind: puller.ErrInvalidRequest, phrases: []string{
		"invalid reference format", "invalid repository name", "invalid tag format", "must be lowercase", "invalid checksum digest",
		"unknown operating system or architecture", "is an invalid component", "is an invalid os", "unknown operating system",
		"repository name not known to registry: invalid", "not implemented on this platform",
	}},
	{kind: puller.ErrRegistryUnavailable, phrases: []string{
		"connection refused", "connection reset", "no such host", "i/o timeout", "tls handshake", "network is unreachable",
		"no route to host", "host is down", "server misbehaving", "name resolution", "x509:", "certificate", "http response to https client",
		"client.timeout exceeded", "request canceled while waiting", "context deadline exceeded", "unexpected eof", "broken pipe", "dial tcp",
		"internal server error", "bad gateway", "service unavailable", "gateway timeout", "tls:",
		"server closed", "pinging container registry", "use of closed network connection", "stream error", "goaway",
		": eof", "timeout awaiting", "connection timed out", "stopped after 10 redirects",
	}},
	{kind: puller.ErrNotFound, phrases: []string{
		"manifest unknown", "unknown blob", "blob unknown", "name unknown", "name_unknown", "manifest_unknown", "not found", "no such image", "does not exist",
		"repository name not known", "not known to registry", "image not known", "unknown image",
	}},
	// An engine that is being stopped gives up its own work.
	{kind: puller.ErrEngineUnavailable, phrases: []string{"context canceled", "shutting down", "daemon is stopping"}},
}
