package auth_test

import (
	"net/http/httptest"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
)

// Tokens of the tests. None may ever be logged.
const (
	reader = "canary-reader"
	boss   = "canary-boss"
)

// both is a token file with both of them.
func both() string {
	return "tokens:\n" + authtest.Listed("reader", reader, "read") + authtest.Listed("boss", boss, "admin")
}

// known reports whether a token is known.
func known(tokens *auth.Tokens, token string) bool {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	_, err := auth.Identify(r, tokens, auth.NewSessions())
	return err == nil
}
