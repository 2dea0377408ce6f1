package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
)

// Tokens of the tests. None may ever be logged.
const (
	reader = "canary-reader"
	boss   = "canary-boss"
)

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// listed is a token as a file lists it.
func listed(name, token, scopes string) string {
	return fmt.Sprintf("  - name: %s\n    sha256: %s\n    scopes: [%s]\n", name, hashOf(token), scopes)
}

// both is a token file with both of them.
func both() string {
	return "tokens:\n" + listed("reader", reader, "read") + listed("boss", boss, "admin")
}

func tokenFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openTokens(t *testing.T, path string, log io.Writer) *auth.Tokens {
	t.Helper()
	l := logrus.New()
	l.SetOutput(log)
	tokens, err := auth.OpenTokens(path, l)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// known reports whether one who shows a token is.
func known(tokens *auth.Tokens, token string) bool {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	_, err := auth.Identify(r, tokens, auth.NewSessions())
	return err == nil
}
