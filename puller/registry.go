package puller

import "context"

// A Registry answers what an engine can't be asked. Its methods may be called
// from anywhere. Every error they return is an *Error.
type Registry interface {
	// Head returns the digest that a reference in full form has in its registry
	// now. At Docker Hub it does not count as a pull. The error is RateLimited
	// where the registry refuses for now, with its RetryAfter if it said so.
	Head(ctx context.Context, image string, c Credentials) (digest string, err error)
}
