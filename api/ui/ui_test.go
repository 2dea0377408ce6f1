package ui_test

import (
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/api/ui"
)

// get asks for the page, or for a file of it.
func get(t *testing.T, method, target, tag string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	if tag != "" {
		r.Header.Set("If-None-Match", tag)
	}
	w := httptest.NewRecorder()
	if target == "/" {
		return w, ui.ServePage(w, r)
	}
	r.SetPathValue("file", strings.TrimPrefix(target, "/ui/"))
	return w, ui.ServeFile(w, r)
}

func TestFiles(t *testing.T) {
	entries, err := os.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 5 {
		t.Fatalf("there are %d files", len(entries))
	}
	targets := map[string]string{"/": "static/index.html"}
	for _, e := range entries {
		targets["/ui/"+e.Name()] = "static/" + e.Name()
	}
	types := map[string]string{".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
	for target, name := range targets {
		t.Run(target, func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			w, err := get(t, http.MethodGet, target, "")
			if err != nil || w.Code != http.StatusOK || w.Body.String() != string(want) {
				t.Fatalf("%d, %v, %d bytes, want %d", w.Code, err, w.Body.Len(), len(want))
			}
			header := w.Header()
			if media, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || media != types[path.Ext(name)] {
				t.Errorf("the media type is %q: %v", header.Get("Content-Type"), err)
			}
			for field, value := range map[string]string{
				"Cache-Control": "no-cache", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Length": strconv.Itoa(len(want)),
			} {
				if header.Get(field) != value {
					t.Errorf("%s is %q, want %q", field, header.Get(field), value)
				}
			}
			policy := header.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") ||
				!strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "base-uri 'none'") {
				t.Errorf("the policy is %q", policy)
			}

			tag := header.Get("ETag")
			for _, sent := range []string{tag, "W/" + tag, `"other", ` + tag} {
				w, err := get(t, http.MethodGet, target, sent)
				if err != nil || w.Code != http.StatusNotModified || w.Body.Len() > 0 || w.Header().Get("ETag") != tag {
					t.Errorf("If-None-Match: %s: %d, %v, %d bytes", sent, w.Code, err, w.Body.Len())
				}
			}
			if w, _ := get(t, http.MethodGet, target, `"other"`); w.Code != http.StatusOK {
				t.Errorf("with another tag: %d", w.Code)
			}
			w, err = get(t, http.MethodHead, target, "")
			if err != nil || w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("ETag") != tag || w.Header().Get("Content-Length") != strconv.Itoa(len(want)) {
				t.Errorf("HEAD: %d, %v, %d bytes, %v", w.Code, err, w.Body.Len(), w.Header())
			}
		})
	}
}

func TestUnknownFile(t *testing.T) {
	for _, name := range []string{"", "none.js", "../ui.go", "static/app.js", "/app.js", ".", "index.html/"} {
		w, err := get(t, http.MethodGet, "/ui/"+name, "")
		if !errors.Is(err, fs.ErrNotExist) || w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%q: %v, %d bytes, %v", name, err, w.Body.Len(), w.Header())
		}
	}
}

// TestNothingInline looks for what the policy would refuse, for what comes from elsewhere,
// and for what makes HTML from text.
func TestNothingInline(t *testing.T) {
	faults := map[string]string{
		".html": `(?i)<script(>| [^>]*>[^<])|<style|\son\w+=|\sstyle=|javascript:|(src|href)="[^/#]|//`,
		".css":  `(?i)@import|url\(`,
		".js":   `(?i)innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|https?:|(?m:^import .* from '[^.])`,
	}
	entries, err := os.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pattern, ok := faults[path.Ext(e.Name())]
		if !ok {
			continue
		}
		text, err := os.ReadFile("static/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile(pattern).FindString(string(text)); found != "" {
			t.Errorf("%s has %q", e.Name(), found)
		}
	}
}
