package puller

// Origin is what the daemon knows of a request beside what its sender says. Requests embed
// it under a name of their own package, so that literals have no such fields. The requests of
// package client do not have it.
type Origin struct {
	// Caller is the name of the caller, "" where it is not known. Slots are shared fairly
	// among callers.
	Caller string
	// Rules are the caller's own, beside those of the daemon. What was accepted is
	// not held to them again.
	Rules Rules
	// Withheld is the registry that the credentials of a PullRequest are for, where that
	// is not the image's own: then they are not used. Package requests sets it.
	Withheld string
}

// ListOrigin is the Origin of a request for a list of images.
type ListOrigin struct {
	Origin
	// Skipped are what the list's author wants and no pull can bring: services of a
	// Compose file without an image.
	Skipped []Skipped
}

type origin = Origin
type listOrigin = ListOrigin
