package docker

import (
	"fmt"
	"mime"
	"net/http"
)

// gateway takes the answer of a proxy that can't reach the engine for what it is:
// no answer of the engine's. Engines answer every failure as JSON.
type gateway struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g gateway) RoundTrip(req *http.Request) (*http.Response, error) {
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
		return nil, fmt.Errorf("a proxy answers in the engine's place: %s", resp.Status)
	}
	return resp, nil
}
