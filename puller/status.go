package puller

import "net/http"

// KindOfStatus returns what a registry's refusal with an HTTP status means, "" for
// a status below 400. It is the one table for what engines tell of registries and
// for what registries answer Towline itself.
func KindOfStatus(status int) ErrorKind {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden,
		// Policies of registries: a scan is missing or failed, the repository is
		// locked, or the image must not be given out.
		http.StatusPreconditionFailed, http.StatusLocked, http.StatusUnavailableForLegalReasons:
		return ErrDenied
	case http.StatusNotFound, http.StatusGone:
		return ErrNotFound
	case http.StatusTooManyRequests:
		return ErrRateLimited
	}
	if status < 400 {
		return ""
	}
	// Of those below 500: 408, 425, and 416 for a blob that changed between two
	// requests for its parts. The rest tells nothing that a caller could mend.
	return ErrRegistryUnavailable
}
