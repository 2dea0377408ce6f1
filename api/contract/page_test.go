package contract_test

import (
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/api/contract"
)

var update = flag.Bool("update", false, "render docs.html from openapi.yaml")

func TestPage(t *testing.T) {
	w := httptest.NewRecorder()
	if err := contract.ServePage(w, httptest.NewRequest("GET", "/docs", nil)); err != nil {
		t.Fatal(err)
	}
	page := w.Body.String()

	t.Run("rendered", func(t *testing.T) {
		want, err := render(contract.Document())
		if err != nil {
			t.Fatal(err)
		}
		if page == string(want) {
			return
		}
		if !*update {
			t.Fatal("docs.html is not that of openapi.yaml; run go test ./api/contract -update")
		}
		if err := os.WriteFile("docs.html", want, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("policy", func(t *testing.T) {
		_, rest, _ := strings.Cut(page, "<style>")
		style, _, _ := strings.Cut(rest, "</style>")
		sum := sha256.Sum256([]byte(style))
		policy := w.Header().Get("Content-Security-Policy")
		if want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.HasPrefix(policy, want) {
			t.Errorf("the policy is %s, want %s", policy, want)
		}
		if found := regexp.MustCompile(`(?i)<(script|link|img|iframe|object|form)\b|\son\w+=|\sstyle=|[^/]javascript:|url\(|@import|href="[a-z]+:`).FindString(page); found != "" {
			t.Errorf("the page has %q", found)
		}
	})
	t.Run("links", func(t *testing.T) {
		ids := make(map[string]bool)
		for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if ids[m[1]] {
				t.Errorf("the ID %s is there twice", m[1])
			}
			ids[m[1]] = true
		}
		links := regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1)
		for _, m := range links {
			if !ids[m[1]] {
				t.Errorf("the link to %s leads nowhere", m[1])
			}
		}
		if len(ids) < 50 || len(links) < 100 {
			t.Errorf("there are %d IDs and %d links", len(ids), len(links))
		}
	})
	t.Run("text", func(t *testing.T) {
		for _, part := range []string{"<code>/v1/prewarms</code>", "scope run", "anybody", "any known caller", `{&#34;image&#34;:&#34;alpine:3.20&#34;`, "<code>no_space</code>", "1 to 1000, default 100"} {
			if !strings.Contains(page, part) {
				t.Errorf("the page lacks %q", part)
			}
		}
		if found := regexp.MustCompile("`|ZgotmplZ|&lt;nil|%!|map\\[").FindString(page); found != "" {
			t.Errorf("the page has %q", found)
		}
	})
}
