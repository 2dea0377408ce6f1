package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// statusError is a registry's answer with another status than 200.
type statusError struct {
	method, url string
	status      int
	message     string // the registry's own, "" where it has none
	retryAfter  time.Duration
}

// newStatusError reads the answer's body.
func newStatusError(resp *http.Response) *statusError {
	u := *resp.Request.URL
	u.RawQuery, u.User, u.Fragment = "", nil, "" // a signed URL is a secret
	e := &statusError{method: resp.Request.Method, url: u.String(), status: resp.StatusCode, retryAfter: retryAfter(resp.Header, time.Now())}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		Errors  []struct{ Code, Message string }
		Details string
	}
	if json.Unmarshal(raw, &body) != nil {
		if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == "text/plain" {
			e.message = strings.TrimSpace(string(raw))
		}
	}
	for _, part := range body.Errors {
		e.message = strings.Trim(e.message+"; "+strings.Trim(strings.ToLower(strings.ReplaceAll(part.Code, "_", " "))+": "+part.Message, ": "), "; ")
	}
	if e.message == "" {
		e.message = body.Details
	}
	e.message = strings.Join(strings.Fields(e.message), " ")
	if message := []rune(e.message); len(message) > 500 {
		e.message = string(message[:500]) + "…"
	}
	return e
}

// Error returns the request, the status and the registry's message.
func (e *statusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, http.StatusText(e.status))
	if e.message != "" {
		s += ": " + e.message
	}
	return s
}
