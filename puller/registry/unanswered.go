package registry

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// unanswered says that a registry gave no answer in any of the ways in which it was asked.
type unanswered []error

// Error gives each reason once, with the schemes that it is for.
func (u unanswered) Error() string {
	var reasons []string
	schemes := make(map[string][]string)
	for _, err := range u {
		scheme, reason := "", err.Error()
		var call *url.Error
		if errors.As(err, &call) {
			scheme, _, _ = strings.Cut(call.URL, "://")
			reason = call.Err.Error()
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
		if !slices.Contains(schemes[reason], scheme) {
			schemes[reason] = append(schemes[reason], scheme)
		}
	}
	words := make([]string, len(reasons))
	for i, reason := range reasons {
		words[i] = "no answer over " + strings.Join(schemes[reason], " and ") + ": " + reason
	}
	return strings.Join(words, "; ")
}

// Unwrap returns all errors.
func (u unanswered) Unwrap() []error { return u }
