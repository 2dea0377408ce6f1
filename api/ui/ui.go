// Package ui is the dashboard: a page of plain HTML, CSS and JavaScript modules, which is
// embedded in the binary. The page has no data. It reads the API as every other client does.
package ui

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// policy lets the page load only what comes from the daemon: no inline script or style,
// and no frame around it (Content Security Policy Level 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// media are the media types of the files. The tables of the system are not asked: they
// differ, and a browser loads no module of another type.
var media = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is one file of the page.
type file struct {
	body []byte
	tag  string // of its content, as an ETag
}

// files returns the files by name.
var files = sync.OnceValue(func() map[string]file {
	all := make(map[string]file)
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		panic("ui: " + err.Error()) // the files are in the binary
	}
	for _, entry := range entries {
		body, err := fs.ReadFile(static, "static/"+entry.Name())
		if err != nil {
			panic("ui: " + err.Error())
		}
		sum := sha256.Sum256(body)
		all[entry.Name()] = file{body, `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	return all
})

// ServePage is GET /: the page.
func ServePage(w http.ResponseWriter, r *http.Request) error { return serve(w, r, "index.html") }

// ServeFile is GET /ui/{file}: a file that the page loads. Where there is no such file,
// it answers nothing and returns an error that is fs.ErrNotExist.
func ServeFile(w http.ResponseWriter, r *http.Request) error {
	return serve(w, r, r.PathValue("file"))
}

func serve(w http.ResponseWriter, r *http.Request, name string) error {
	f, ok := files()[name]
	if !ok {
		return fmt.Errorf("the dashboard has no file %.100q: %w", name, fs.ErrNotExist)
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	// The browser asks each time, because an upgrade changes all files at once.
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", f.tag)
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	header.Set("Content-Type", media[path.Ext(name)])
	header.Set("Content-Length", strconv.Itoa(len(f.body)))
	if r.Method != http.MethodHead {
		w.Write(f.body) // an error says that the client has gone
	}
	return nil
}
