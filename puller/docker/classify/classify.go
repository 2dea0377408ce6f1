// Package classify gives the errors of engines their kinds: typed errors first, messages
// last. No other package does.
package classify

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

// verdict is what an engine's message says about a failure.
type verdict struct {
	kind puller.ErrorKind
	// unclear: a registry refused, and the message does not say why. The registry can
	// be asked.
	unclear bool
	advice  string // what the caller can do, "" where the message says it
}

// Error gives an engine's error its kind. No other function does that.
//
// The context and typed errors come first, then the engine's message, and last the
// engine's status code: engines answer 404 for denied images and 500 for most other
// failures (Docker Engine 20.10 to 29). A registry's status inside the message has the
// kind that puller.KindOfStatus gives it.
func Error(ctx context.Context, op, ref string, err error) error {
	var v verdict
	var cut *StreamError
	var lost *UnreachableError
	var other *WrongImageError
	var known *puller.Error
	switch cause := context.Cause(ctx); {
	case cause != nil && errors.As(cause, &known):
		return known // the function that ended ctx said why
	case errors.Is(cause, context.DeadlineExceeded):
		v.kind = puller.ErrTimeout
	case cause != nil:
		v.kind = puller.ErrCanceled
	case errors.As(err, &cut):
		v.kind = puller.ErrTruncated
	case errors.As(err, &other):
		v.kind = puller.ErrCorrupt
	case client.IsErrConnectionFailed(err), errors.As(err, &lost):
		v.kind = puller.ErrEngineUnavailable
	case isContainerOp(op):
		v = ofContainerMessage(err)
	case op == OpRemoveImage && (cerrdefs.IsConflict(err) || cerrdefs.IsNotFound(err)):
		v.kind = kindOfType(err) // the words name what needs the image
	default:
		v = ofImageMessage(err, ref)
		if op != OpPull {
			v = withoutRegistry(v, err)
		}
	}
	return &puller.Error{Op: op, Ref: ref, Kind: v.kind, Unclear: v.unclear, Err: forCaller(op, err, v.advice)}
}

// withoutRegistry corrects the verdict on a call that involves no registry.
func withoutRegistry(v verdict, err error) verdict {
	switch {
	case v.unclear:
		return verdict{kind: kindOfType(err)}
	case v.kind == puller.ErrRegistryUnavailable:
		return verdict{kind: puller.ErrEngineUnavailable}
	case v.kind == puller.ErrTruncated: // the store lacks a part of the image
		return verdict{kind: puller.ErrNotFound}
	}
	return v
}

// kindOfType returns the kind of an error's type, which follows from the engine's
// status code.
func kindOfType(err error) puller.ErrorKind {
	switch {
	case cerrdefs.IsNotFound(err):
		return puller.ErrNotFound
	case cerrdefs.IsInvalidArgument(err):
		return puller.ErrInvalidRequest
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		return puller.ErrDenied
	case cerrdefs.IsConflict(err):
		return puller.ErrConflict
	case cerrdefs.IsResourceExhausted(err):
		return puller.ErrRateLimited
	case cerrdefs.IsUnavailable(err):
		return puller.ErrEngineUnavailable
	}
	return puller.ErrInternal
}

// pattern is a row of a table of engines' messages. It matches a lower-cased message
// that has one of the phrases in it, or that the expression matches.
type pattern struct {
	kind    puller.ErrorKind
	phrases []string
	re      *regexp.Regexp
	advice  string
}

// match returns the verdict of the first row that matches.
func match(table []pattern, message string) (v verdict, ok bool) {
	for _, p := range table {
		found := p.re != nil && p.re.MatchString(message)
		for i := 0; i < len(p.phrases) && !found; i++ {
			found = strings.Contains(message, p.phrases[i])
		}
		if found {
			return verdict{kind: p.kind, advice: p.advice}, true
		}
	}
	return verdict{}, false
}

func anyOf(patterns ...string) *regexp.Regexp { return regexp.MustCompile(strings.Join(patterns, "|")) }

// versionMismatch finds an engine's refusal of the API version. An engine that was
// replaced by another version refuses the version that was negotiated before.
var versionMismatch = regexp.MustCompile(`(?:^|: )client version `)

func IsVersionMismatch(err error) bool {
	return versionMismatch.MatchString(strings.ToLower(ends(err.Error())))
}

// ends returns a message as far as it is matched: its beginning, which says what failed,
// and its end, which says why. A line of an engine's stream may have 1 MiB, and the
// tables' expressions take half a second of CPU for that.
func ends(message string) string {
	const most = 4 << 10 // of each, in bytes
	if len(message) <= 2*most {
		return message
	}
	return message[:most] + " … " + message[len(message)-most:]
}

// withoutRef removes the image's name from a message, so that a repository called
// "unauthorized" is not taken for the engine's word.
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
		// A single word stays: without "found", "not found" would have no meaning.
		if strings.ContainsAny(name, "/:.' %") {
			message = strings.ReplaceAll(message, name, "<image>")
		}
	}
	return message
}
