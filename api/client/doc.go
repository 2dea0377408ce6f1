// Package client calls a Towline daemon.
//
// A [Client] pulls images, runs programs, prewarms lists of images, and follows jobs. It
// imports no part of the daemon.
//
//	c, err := client.New("", os.Getenv("TOWLINE_TOKEN"))
//	…
//	job, err := c.Pull(ctx, client.PullRequest{Image: "alpine:3.20"})
//
// The calls about sets, leases, images and the fleet are in groups:
//
//	set, err := c.Sets().Put(ctx, "base", client.SetRequest{Images: []client.PullRequest{{Image: "redis:7"}}})
//	hosts, err := c.Fleet().Hosts(ctx, map[string]string{"role": "ci"})
//
// Requests are types of this package. What they get back are words of packages puller,
// puller/keep and puller/fleet.
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
