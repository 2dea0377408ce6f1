package docker

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

// engineError is a failure that the engine reported inside a stream.
type engineError struct{ message string }

func (e *engineError) Error() string { return e.message }

// streamError is a stream that could not be read to a clean end.
type streamError struct{ err error }

func (e *streamError) Error() string {
	return "the engine's stream was cut or garbled before its end: " + e.err.Error()
}

func (e *streamError) Unwrap() error { return e.err }

// unreachable is a call of our own, beside the SDK, that got no answer.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// classify is the one place where an engine's error gets its kind: by ctx and
// by type where these tell it, and by the engine's words where only those do.
// Status codes come last, because engines give 404 to what was denied and 500
// to most of the rest (Docker Engine 20.10 to 29).
func classify(ctx context.Context, op, ref string, err error) error {
	e := &puller.Error{Op: op, Ref: ref, Err: plain(err)}
	var cut *streamError
	var lost *unreachable
	var other *otherImage
	var known *puller.Error
	switch cause := context.Cause(ctx); {
	case cause != nil && errors.As(cause, &known):
		return known // who ended ctx said why
	case errors.Is(cause, context.DeadlineExceeded):
		e.Kind = puller.Timeout
	case cause != nil:
		e.Kind = puller.Canceled
	case errors.As(err, &cut):
		e.Kind = puller.Truncated
	case errors.As(err, &other):
		e.Kind = puller.Corrupt
	case client.IsErrConnectionFailed(err), errors.As(err, &lost):
		e.Kind = puller.EngineUnavailable
	case slices.Contains(containerOps, op):
		e.Kind, e.Err = ofContainers(plain(err))
	default:
		e.Kind = kindOf(err, ref)
		if e.Kind == puller.RegistryUnavailable && op != "pull" {
			e.Kind = puller.EngineUnavailable // no registry took part
		}
	}
	return e
}

func kindOf(err error, ref string) puller.Kind {
	if kind := kindOfWords(withoutRef(err.Error(), ref)); kind != "" {
		return kind
	}
	return kindOfType(err)
}

func kindOfType(err error) puller.Kind {
	switch {
	case cerrdefs.IsNotFound(err):
		return puller.NotFound
	case cerrdefs.IsInvalidArgument(err):
		return puller.InvalidRequest
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		return puller.Denied
	case cerrdefs.IsConflict(err):
		return puller.Conflict
	case cerrdefs.IsResourceExhausted(err):
		return puller.RateLimited
	case cerrdefs.IsUnavailable(err):
		return puller.EngineUnavailable
	}
	return puller.Internal
}

// words maps what engines say to kinds; the first row that has one of its
// phrases in the lower-cased message wins. A row names where its less obvious
// phrases were heard.
var words = []struct {
	kind    puller.Kind
	phrases []string
}{
	// An engine that was exchanged for another version (see Engine.renew), and
	// one that is called without the TLS it asks for.
	{puller.EngineUnavailable, []string{"client version", "client sent an http request to an https server"}},
	{puller.NoSpace, []string{"no space left on device", "disk quota exceeded", "not enough space", "no_space"}},
	// The containerd image store words a blob's 429 without the number.
	{puller.RateLimited, []string{"toomanyrequests", "too many requests", "rate limit", "ratelimit"}},
	{puller.PlatformMismatch, []string{
		"no matching manifest for", "no match for platform", "does not match the specified platform",
		"does not provide the specified platform", "does not provide any platform",
		"no image found in manifest list for", "no image found in image index for", // Podman
		"cannot be used on this platform", "operating system is not supported", "cannot download image with operating system",
	}},
	{puller.Corrupt, []string{
		"verification failed for digest", "failed size validation", "unexpected commit digest", "unexpected digest",
		"digest did not match", "did not match expected digest", "digest mismatch", "does not match digest", "digest verification failed", "failed to verify digest",
		"don't match image configuration", "invalid rootfs in image configuration", "blob sum mismatch",
		"invalid checksum", "checksum error", "invalid tar header", "error processing tar file", "gzip: invalid", "flate: corrupt", "archive/tar:",
		"unpigz: corrupted", "corrupt input", "magic number mismatch",
		"digest of source image's manifest would change", // Podman
	}},
	// Graph drivers keep one platform of an index under its digest.
	{puller.Conflict, []string{"cannot overwrite digest"}},
	{puller.Denied, []string{
		"unauthorized", "authentication required", "no basic auth credentials", "authorization failed",
		"access denied", "access to the resource is denied", ": denied", "insufficient_scope", "forbidden",
		"incorrect username or password", "login attempt", "invalid username/password", "may require 'docker login'",
	}},
	{puller.InvalidRequest, []string{
		"invalid reference format", "invalid repository name", "invalid tag format", "must be lowercase", "invalid checksum digest",
		"unknown operating system or architecture", "is an invalid component", "is an invalid os", "unknown operating system",
		"repository name not known to registry: invalid", "not implemented on this platform",
	}},
	{puller.RegistryUnavailable, []string{
		"connection refused", "connection reset", "no such host", "i/o timeout", "tls handshake", "network is unreachable",
		"no route to host", "host is down", "server misbehaving", "name resolution", "x509:", "certificate", "http response to https client",
		"client.timeout exceeded", "request canceled while waiting", "context deadline exceeded", "unexpected eof", "broken pipe", "dial tcp",
		"internal server error", "bad gateway", "service unavailable", "gateway timeout", "unexpected http status: 5", "tls:",
		"server closed", "pinging container registry", "use of closed network connection", "stream error", "goaway",
		": eof", "timeout awaiting", "connection timed out",
	}},
	{puller.NotFound, []string{
		"manifest unknown", "unknown blob", "blob unknown", "name unknown", "name_unknown", "manifest_unknown", "not found", "no such image", "does not exist",
		"repository name not known", "not known to registry", "image not known", "unknown image",
	}},
	// An engine that is being stopped gives up its own work.
	{puller.EngineUnavailable, []string{"context canceled", "shutting down", "daemon is stopping"}},
}

// Bare status numbers, which must not be found inside a digest or a port.
var statuses = []struct {
	kind puller.Kind
	re   *regexp.Regexp
}{
	{puller.RateLimited, statusNumber("429")},
	{puller.Denied, statusNumber("40[13]")},
	{puller.NotFound, statusNumber("404")},
	{puller.RegistryUnavailable, statusNumber("5[0-9][0-9]")},
}

func statusNumber(re string) *regexp.Regexp {
	return regexp.MustCompile(`(?:status|code|http)[^0-9/]{0,24}` + re + `\b`)
}

func kindOfWords(message string) puller.Kind {
	// A phrase that begins with ": " is also found at the beginning.
	message = ": " + strings.ToLower(message)
	for _, row := range words {
		for _, phrase := range row.phrases {
			if strings.Contains(message, phrase) {
				return row.kind
			}
		}
	}
	for _, s := range statuses {
		if s.re.MatchString(message) {
			return s.kind
		}
	}
	return ""
}

// withoutRef takes the image's name out of a message, so that a repository
// called "unauthorized" is not taken for the engine's word.
func withoutRef(message, ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return message
	}
	path, familiar := reference.Path(named), reference.FamiliarName(named)
	names := []string{
		named.String(), reference.FamiliarString(named), named.Name(), reference.Domain(named),
		" for " + familiar + ",", "repository " + familiar + " ", "/v2/" + path + "/", "'" + path + "'", url.QueryEscape(":" + path + ":"),
	}
	if tagged, ok := named.(reference.Tagged); ok {
		names = append(names, "manifests/"+tagged.Tag(), "manifest "+tagged.Tag()+" in ")
	}
	for _, name := range names {
		// A bare word stays: replacing "found" would take "not found" along.
		if strings.ContainsAny(name, "/:.' %") {
			message = strings.ReplaceAll(message, name, "<image>")
		}
	}
	return message
}

// plain leaves out what the SDK puts before the engine's own words.
func plain(err error) error {
	const prefix = "Error response from daemon: "
	if message, ok := strings.CutPrefix(err.Error(), prefix); ok {
		return &saidError{message, err}
	}
	return err
}

type saidError struct {
	message string
	err     error
}

func (e *saidError) Error() string { return e.message }
func (e *saidError) Unwrap() error { return e.err }
