package puller

import "github.com/distribution/reference"

// Rules say which images may be asked for. nil forbids nothing.
type Rules interface {
	// Check returns why a request of a kind of job that has its defaults is refused, nil
	// if it is not. named is nil for an image ID. The error is ErrForbidden and names
	// the rule.
	Check(kind JobKind, named reference.Named, r PullRequest) error
	// CheckName is Check for an image that is only looked at.
	CheckName(named reference.Named) error
}
