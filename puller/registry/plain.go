package registry

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/towline/towline/puller/registry/transport"
)

// plainTry asks a registry over plain HTTP while it is not known yet whether it has TLS. It
// saves the round trips of asking after that. It shows no credentials, and only an answer
// that needs none counts.
type plainTry struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	ok     bool          // then
}

// tryPlain begins to ask the registry, if it may be called without TLS.
func (s *session) tryPlain(ctx context.Context, next *transport.Transport) *plainTry {
	ctx, cancel := context.WithCancel(ctx)
	t := &plainTry{cancel: cancel, done: make(chan struct{})}
	// Its own recorder: that of the session changes its transport meanwhile.
	client := http.Client{
		Transport:     &recorder{next: next, many: s.recorder.many},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	registry := s.repo.RegistryStr()
	go func() {
		defer close(t.done)
		defer cancel()
		if !s.transports.WasInsecure(ctx, registry) {
			return
		}
		at := url.URL{Scheme: "http", Host: registry, Path: "/v2/"}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return
		}
		req.Header.Set("User-Agent", userAgent)
		resp, err := client.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the next call reuses the connection
		t.ok = err == nil && resp.StatusCode == http.StatusOK
	}()
	return t
}

// answers waits for the end, and reports whether the registry answers without credentials.
func (t *plainTry) answers() bool {
	<-t.done
	return t.ok
}
