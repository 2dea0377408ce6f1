package docker_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// A proxy that can't reach the engine answers itself.
func TestProxyAnswers(t *testing.T) {
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
			e := newHTTPEngine(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/_ping") {
					return
				}
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			err := e.Pull(t.Context(), puller.Pull{Image: "registry.test/image:v1"}, func(pullstream.Message) {})
			if puller.KindOf(err) != c.kind {
				t.Errorf("Pull: %v", err)
			}
			if c.kind == puller.ErrEngineUnavailable {
				if _, err := e.Inspect(t.Context(), "registry.test/image:v1", ""); puller.KindOf(err) != c.kind {
					t.Errorf("Inspect: %v", err)
				}
			}
		})
	}
}

func TestInsecureRegistries(t *testing.T) {
	for body, want := range map[string]string{
		`{}`:                      "[]",
		`{"RegistryConfig":null}`: "[]",
		`{"RegistryConfig":{"InsecureRegistryCIDRs":["127.0.0.0/8","::1/128",null],"IndexConfigs":{"docker.io":{"Official":true,"Secure":true},"registry.test:5000":{"Secure":false},"safe.test":{"Secure":true},"none.test":null}}}`: "[127.0.0.0/8 ::1/128 registry.test:5000]",
	} {
		e := newAnsweringEngine(t, map[string]string{"GET /info": body})
		if got, err := e.InsecureRegistries(t.Context()); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", body, got, err)
		}
	}
}

func TestOwnRegistries(t *testing.T) {
	for config, want := range map[string]string{
		`null`: "",
		`{"InsecureRegistryCIDRs":["127.0.0.0/8","::1/128",null],"IndexConfigs":{"docker.io":{"Official":true,"Secure":true}},"Mirrors":[]}`: "",
		`{"InsecureRegistryCIDRs":["127.0.0.0/8","10.1.0.0/16"]}`:                                                                            "insecure-registries",
		`{"IndexConfigs":{"registry.test:5000":{"Secure":false}},"Mirrors":["https://mirror.test/"]}`:                                        "registry-mirrors and insecure-registries",
	} {
		e := newAnsweringEngine(t, map[string]string{"GET /info": `{"RegistryConfig":` + config + `}`, "GET /version": `{"Version":"28.5.2"}`})
		if got, err := e.Info(t.Context()); err != nil || got.OwnRegistries != want {
			t.Errorf("%s: %+v, %v", config, got, err)
		}
	}
}
