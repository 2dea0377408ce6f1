package redact

import (
	"regexp"
	"strings"
)

// urlQuery finds a URL with a query string: up to the "?", and what ends the URL. Messages
// can quote a URL with the escapes of Go or JSON: \" ends it too, and \/ is a slash.
var urlQuery = regexp.MustCompile(`(?i)(https?:(?:\\?/){2}[^\s"<>?]*\?)(?:[^\s"<>\\]|\\[^"]|\\$)*?([:;,.)\]]*(?:\\?"|[\s<>]|$))`)

// URLQueries hides the query string of every URL in a text. Storage signs URLs
// there (X-Amz-Signature, Signature, sig): with the query string, anyone can read
// what the URL names until it expires.
func URLQueries(text string) string {
	if !strings.Contains(text, "?") {
		return text
	}
	return urlQuery.ReplaceAllString(text, "${1}"+hidden+"${2}")
}
