package docker_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/stream/pullstream"
)

// A proxy before the engine's socket that can't reach it answers by itself.
func TestAProxysAnswerIsNotTheEngines(t *testing.T) {
	for _, c := range []struct {
		name, media, body string
		status            int
		kind              puller.ErrorKind
	}{
		{"HTML", "text/html", "<html><h1>502 Bad Gateway</h1></html>", 502, puller.ErrEngineUnavailable},
		{"HTML with other words", "text/html", "<html>manifest unknown: not found, unauthorized</html>", 502, puller.ErrEngineUnavailable},
		{"empty", "", "", 503, puller.ErrEngineUnavailable},
		{"plain text", "text/plain; charset=utf-8", "upstream request timeout", 504, puller.ErrEngineUnavailable},
		{"the engine's own", "application/json", `{"message":"received unexpected HTTP status: 503 Service Unavailable"}`, 503, puller.ErrRegistryUnavailable},
		{"the engine's own, with a charset", "application/json; charset=utf-8", `{"message":"no such image"}`, 404, puller.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/_ping") {
					w.Header().Set("Api-Version", "1.41")
					return
				}
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.status)
				w.Write([]byte(c.body))
			}))
			defer s.Close()
			e, err := docker.New(docker.Options{Host: "unix:///proxied", Dial: func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			err = e.Pull(t.Context(), puller.Pull{Image: "registry.test/image:v1"}, func(pullstream.Message) {})
			if puller.KindOf(err) != c.kind {
				t.Errorf("a pull: %v", err)
			}
			if c.kind == puller.ErrEngineUnavailable {
				if _, err := e.Inspect(t.Context(), "registry.test/image:v1", ""); puller.KindOf(err) != c.kind {
					t.Errorf("an inspect: %v", err)
				}
			}
		})
	}
}

func TestTheEngineSaysWhichRegistriesItCallsInsecurely(t *testing.T) {
	for body, want := range map[string]string{
		`{}`:                      "[]",
		`{"RegistryConfig":null}`: "[]",
		`{"RegistryConfig":{"InsecureRegistryCIDRs":["127.0.0.0/8","::1/128",null],"IndexConfigs":{"docker.io":{"Official":true,"Secure":true},"registry.test:5000":{"Secure":false},"safe.test":{"Secure":true},"none.test":null}}}`: "[127.0.0.0/8 ::1/128 registry.test:5000]",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/info") {
				w.Write([]byte(body))
			}
		}))
		e, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.InsecureRegistries(t.Context()); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", body, got, err)
		}
		e.Close()
		s.Close()
	}
}
