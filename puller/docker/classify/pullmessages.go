package classify

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/towline/towline/puller"
)

// ofImageMessage returns the verdict on a failure with an image: by the engine's
// message, or else by the error's type.
func ofImageMessage(err error, ref string) verdict {
	// A phrase that begins with ": " is also found at the beginning.
	message := ": " + strings.ToLower(withoutRef(ends(err.Error()), ref))
	if v, ok := ofLayerMessage(message); ok {
		return v
	}
	if v, ok := ofQuotedStatus(message); ok {
		return v
	}
	if v, ok := match(pullMessages, message); ok {
		return v
	}
	if m := anyStatus.FindStringSubmatch(message); m != nil {
		if kind := kindOfDigits(m[1]); kind != "" {
			return verdict{kind: kind}
		}
	}
	if unknownCode.MatchString(message) {
		return verdict{kind: puller.ErrRegistryUnavailable, unclear: true}
	}
	return verdict{kind: kindOfType(err)}
}

// quotedStatus finds a registry's HTTP status where engines quote it. The answer's body
// may follow, with any words in it.
var quotedStatus = regexp.MustCompile(`(?:error parsing http|unexpected http status:?|request to \S+:|unexpected (?:head )?status code(?: \S+:)?|invalid status code from registry|statuscode:) ([45][0-9]{2})\b`)

// anyStatus finds a number that is called a status. It must not match inside a digest
// or a port.
var anyStatus = regexp.MustCompile(`(?:status|code|http)[^0-9/]{0,24}(40[1-4]|41[02]|42[359]|451|5[0-9]{2})\b`)

// expiredURL finds a storage's refusal of a signed URL that has expired. The registry
// signs a new one for the next request. The containerd image store does not quote the
// answer's body.
var expiredURL = regexp.MustCompile(`request has expired|signature not valid in the specified time frame|<code>expiredtoken</code>|request to \S+[?&](?:x-amz-signature|x-goog-signature|signature|sig)=\S*: 403\b`)

// unknownCode finds a registry's error with a code that engines do not know. Graph
// drivers write "unknown" in its place, the containerd image store the word "registry".
// Neither quotes the status.
var unknownCode = regexp.MustCompile(`[:"] (?:unknown|unsupported): |error from registry: `)

const (
	adviceExpired = "a signed URL has expired; each retry gets a new one, as often as the job's retries allow"
	adviceRange   = "the registry refused the rest of a blob that was cut; each retry asks for it again, as often as the job's retries allow"
	adviceDigest  = "the engine already has another platform under this digest; name the platform's own manifest by its digest"
)

// ofQuotedStatus returns the verdict on a registry's status that the message quotes.
func ofQuotedStatus(message string) (v verdict, ok bool) {
	m := quotedStatus.FindStringSubmatch(message)
	if m == nil {
		return v, false
	}
	v.kind = kindOfDigits(m[1])
	switch {
	case v.kind == puller.ErrDenied && expiredURL.MatchString(message):
		return verdict{kind: puller.ErrRegistryUnavailable, advice: adviceExpired}, true
	case m[1] == "416":
		v.advice = adviceRange
	}
	return v, v.kind != ""
}

func kindOfDigits(digits string) puller.ErrorKind {
	status, _ := strconv.Atoi(digits)
	return puller.KindOfStatus(status)
}

// pullMessages are engines' messages about images. The first row that matches wins. A
// comment names the engine of the less obvious phrases.
var pullMessages = []pattern{
	{kind: puller.ErrEngineUnavailable, re: versionMismatch},
	// The engine expects TLS.
	{kind: puller.ErrEngineUnavailable, phrases: []string{"client sent an http request to an https server"}},
	{kind: puller.ErrNoSpace, phrases: []string{"no space left on device", "disk quota exceeded", "not enough space", "no_space"}},
	// Another client removed a part of the image from the engine's store, or its name while
	// the engine looked it up. The next pull brings it again.
	{kind: puller.ErrTruncated, re: regexp.MustCompile(`failed to get layer .*does not exist|content digest sha256:[0-9a-f]+: not found|lease .*(?:does not exist|not found)|failed commit on ref .*rename |parent snapshot \S+ does not exist|consistency error: data changed during operation`)},
	// The containerd image store reports a blob's 429 without the number.
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
	// Graph drivers keep one platform of an index under the index's digest (20.10).
	{kind: puller.ErrConflict, phrases: []string{"cannot overwrite digest"}, advice: adviceDigest},
	// Something exists and is no image, or a server answers 200 with something that no
	// registry sends: HTML, a token answer without a token.
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
	// The engine is being stopped.
	{kind: puller.ErrEngineUnavailable, phrases: []string{"context canceled", "shutting down", "daemon is stopping"}},
}
