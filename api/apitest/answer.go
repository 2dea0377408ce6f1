package apitest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Limit is how long a request of a test may take before it has failed.
const Limit = 2 * time.Minute

// Send makes a request. A body is JSON, unless a header says otherwise. Headers are given
// as name, value, name, value…
func (d *Daemon) Send(ctx context.Context, method, path, body string, header ...string) *http.Response {
	d.T.Helper()
	r, err := http.NewRequestWithContext(ctx, method, d.URL+path, strings.NewReader(body))
	if err != nil {
		d.T.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := d.Client.Do(r)
	if err != nil {
		d.T.Fatal(err)
	}
	return resp
}

// Answer is a whole answer.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Call makes a request as Send does, and reads the whole answer within Limit.
func (d *Daemon) Call(method, path, body string, header ...string) Answer {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(d.T.Context(), Limit)
	defer cancel()
	resp := d.Send(ctx, method, path, body, header...)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.T.Fatalf("%s %s: %v after %s", method, path, err, raw)
	}
	return Answer{resp.StatusCode, resp.Header, string(raw)}
}

// Decode decodes the JSON of an answer, which must have the status and the media type,
// and must not be cached.
func (a Answer) Decode(t *testing.T, status int, media string, v any) {
	t.Helper()
	if got := a.Header.Get("Content-Type"); a.Status != status || got != media {
		t.Fatalf("the answer is %d, %s, not %d, %s:\n%s", a.Status, got, status, media, a.Body)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		t.Fatalf("%v in:\n%s", err, a.Body)
	}
}
