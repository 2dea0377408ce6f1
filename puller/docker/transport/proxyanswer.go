package transport

import (
	"fmt"
	"mime"
	"net/http"
)

// proxyAnswers turns the answer of a proxy that can't reach the engine into a connection
// error. An engine's own errors are JSON.
type proxyAnswers struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g proxyAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && media == "application/json" {
			break
		}
		resp.Body.Close()
		return nil, fmt.Errorf("a proxy answered instead of the engine: %s", resp.Status)
	}
	return resp, nil
}
