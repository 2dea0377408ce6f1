// Package authtest makes token files for tests.
package authtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
)

// Hash returns the hash of a token, as a token file has it.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Listed returns the entry of a token; scopes are separated by commas.
func Listed(name, token, scopes string) string {
	return fmt.Sprintf("  - name: %s\n    sha256: %s\n    scopes: [%s]\n", name, Hash(token), scopes)
}

// File writes a token file for the time of the test, and returns its path.
func File(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Open opens a token file. Its log goes to out.
func Open(t testing.TB, path string, out io.Writer) *auth.Tokens {
	t.Helper()
	log := logrus.New()
	log.SetOutput(out)
	tokens, err := auth.OpenTokens(path, log)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}
