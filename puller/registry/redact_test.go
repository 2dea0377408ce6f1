package registry_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

// A registry can quote the credentials that it was sent anywhere in its answers.
func TestErrorWithoutCredentials(t *testing.T) {
	const password = `pass word&<>'"+/=%`
	inJSON, _ := json.Marshal(password)
	forms := []string{
		password, fmt.Sprintf("%q", password), fmt.Sprintf("%q", fmt.Sprintf("%q", password)), string(inJSON), url.QueryEscape(password), url.PathEscape(password), html.EscapeString(password),
		base64.StdEncoding.EncodeToString([]byte(password)), base64.RawURLEncoding.EncodeToString([]byte("ada:" + password)), url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("ada:" + password))),
	}
	body, _ := json.Marshal(map[string]string{"username": "ada", "password": password})
	ada := credentials(t, string(body))
	quoted := func(s string) string { raw, _ := json.Marshal(s); return string(raw) }
	answers := map[string]func(http.ResponseWriter, string){
		"an error": func(w http.ResponseWriter, s string) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%s,"detail":%s}]}`, quoted(s), quoted(s))
		},
		"a page": func(w http.ResponseWriter, s string) {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "<html>"+s)
		},
		"a redirect": func(w http.ResponseWriter, s string) {
			w.Header().Set("Location", "http://127.0.0.1:1/"+url.PathEscape(s)+"?p="+url.QueryEscape(s))
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"a garbled redirect": func(w http.ResponseWriter, s string) {
			w.Header().Set("Location", "http://[::1"+strings.Map(printable, s))
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"a digest": func(w http.ResponseWriter, s string) {
			w.Header().Set("Docker-Content-Digest", strings.Map(printable, s))
		},
		"a type": func(w http.ResponseWriter, s string) {
			w.Header().Set("Content-Type", strings.Map(printable, s))
			w.WriteHeader(http.StatusNotFound)
		},
	}
	for place, answer := range answers {
		t.Run(place, func(t *testing.T) {
			for _, form := range forms {
				f := newFakeRegistry(t, open, everyone)
				f.refuses = func(w http.ResponseWriter, r *http.Request) { answer(w, form) }
				c := newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.1"}})
				_, err := c.Head(t.Context(), f.host+"/team/app:v1", ada)
				_, other := c.Manifest(t.Context(), puller.ManifestQuery{Image: f.host + "/team/app:v1", Platform: "linux/amd64", Credentials: ada})
				for _, err := range []error{err, other} {
					if err == nil {
						t.Errorf("%q in %s: no error", form, place)
					} else if strings.Contains(err.Error(), form) || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "word&<") {
						t.Errorf("%q in %s: %v", form, place, err)
					}
				}
			}
		})
	}
}

// printable drops characters that headers must not have.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}

func TestManifestErrorWithoutCredentials(t *testing.T) {
	ada := login(t)
	for name, manifest := range map[string]string{
		"its type":   `{"schemaVersion":2,"config":{"mediaType":"application/` + strings.Repeat("x", 70) + secret + `","digest":"` + digest + `","size":1},"layers":[]}`,
		"no JSON":    `{"schemaVersion":2,` + secret,
		"a digest":   `{"schemaVersion":2,"config":{"mediaType":"","digest":"sha256:` + secret + `","size":1},"layers":[]}`,
		"a platform": `{"schemaVersion":2,"manifests":[{"digest":"` + digest + `","platform":{"os":"linux","architecture":"` + secret + `"}}]}`,
	} {
		c := newTestRegistry(t)
		ref := c.push("team/app:v1", newImage(t, "linux/amd64", 1))
		c.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(manifest))))
			w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
			if r.Method == http.MethodGet {
				io.WriteString(w, manifest)
			}
			return true
		})
		_, err := newClient(t).Manifest(t.Context(), puller.ManifestQuery{Image: ref, Platform: "linux/arm64", Credentials: ada})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A storage that can't be reached has its signed URL in the error.
func TestErrorWithoutSignedURL(t *testing.T) {
	f := newFakeRegistry(t, open, everyone)
	f.refuses = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/blob?X-Amz-Signature=5ec4e7", http.StatusTemporaryRedirect)
	}
	_, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", puller.Credentials{})
	wantKind(t, err, puller.ErrRegistryUnavailable)
	if strings.Contains(err.Error(), "5ec4e7") || !strings.Contains(err.Error(), "http://127.0.0.1:1/blob?(hidden)") {
		t.Error(err)
	}
}
