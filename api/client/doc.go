// Package client calls a Towline daemon.
//
// A [Client] pulls images, runs programs, prewarms lists of images, and follows jobs. Its
// words are those of package puller, and it imports no part of the daemon.
//
//	c, err := client.New("", os.Getenv("TOWLINE_TOKEN"))
//	…
//	job, err := c.Pull(ctx, puller.PullRequest{Image: "alpine:3.20"})
//
// In requests, the fields that are not in JSON are for the daemon, but Credentials, Logins
// and IdempotencyKey, which are sent as headers.
//
// An error has the kind of what went wrong. What to do about it follows from the kind:
//
//	switch {
//	case puller.KindOf(err) == puller.ErrNotFound:
//		// there is no such image
//	case puller.KindOf(err).Retryable():
//		// the same call may succeed after puller.RetryAfterOf(err)
//	}
//
// A daemon may answer with fields, events and values that this package does not know. It
// ignores such fields. See the rules for compatibility in the documents of the API.
package client
