package contract

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"sync"
)

// page is the contract as a page. A test renders it from openapi.yaml and testdata, because
// a program with a template in it is 3.7 MB larger: the linker then keeps all methods. After
// a change, run go test ./api/contract -update.
//
//go:embed docs.html
var page []byte

// policy allows nothing but the style in the page.
var policy = sync.OnceValue(func() string {
	_, rest, _ := bytes.Cut(page, []byte("<style>"))
	style, _, _ := bytes.Cut(rest, []byte("</style>"))
	sum := sha256.Sum256(style)
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
})

// ServePage is GET /docs: the contract as a page that needs nothing else, neither another
// request nor a script.
func ServePage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Security-Policy", policy())
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.Method != http.MethodHead {
		w.Write(page) // an error says that the client has gone
	}
	return nil
}
