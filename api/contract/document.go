// Package contract holds the contract of the HTTP API, an OpenAPI 3.1 document, and
// serves it as it is and as a page.
package contract

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.yaml
var document []byte

// Document returns the contract in YAML. The caller must not change it.
func Document() []byte { return document }

// ServeDocument is GET /openapi.yaml.
func ServeDocument(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	if r.Method != http.MethodHead {
		w.Write(document) // an error says that the client has gone
	}
	return nil
}
