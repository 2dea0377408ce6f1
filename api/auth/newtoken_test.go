package auth_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
)

func TestAddTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	made := map[string]string{}
	for i, before := range []string{"", "\n# of the build hosts\ncertificates:\n  - name: build\n    scopes: [pull]\n", ""} {
		if before != "" {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(f, before)
			f.Close()
			os.Chmod(path, 0o640)
		}
		name := fmt.Sprintf("ci-%d", i)
		n, err := auth.MakeToken(name, []auth.Scope{auth.ScopePull, auth.ScopeRead}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.AddTo(path); err != nil {
			t.Fatal(err)
		}
		made[name] = n.Token
		if err := n.AddTo(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "twice") {
			t.Errorf("the same once more: %v", err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(content), "# of the build hosts") || !strings.Contains(string(content), "name: build") {
		t.Errorf("what was there is lost: %s %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	tokens := authtest.Open(t, path, io.Discard)
	for name, token := range made {
		if strings.Contains(string(content), token) || len(token) < 40 {
			t.Errorf("the file holds the token %s, or it is short", token)
		}
		if !known(tokens, token) {
			t.Errorf("%s is not known", name)
		}
	}
	if made["ci-0"] == made["ci-1"] {
		t.Error("two tokens are the same")
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) != 0 {
		t.Errorf("%v is left behind", left)
	}
	// Somebody else is at it.
	os.WriteFile(path+".new", nil, 0o600)
	n, err := auth.MakeToken("x", []auth.Scope{auth.ScopeRead}, time.Now().Add(time.Hour))
	if err != nil || !strings.Contains(n.File(), "expires: ") {
		t.Fatal(err, n.File())
	}
	if err := n.AddTo(path); err == nil || !strings.Contains(err.Error(), path+".new") {
		t.Errorf("two at once: %v", err)
	}
	for _, bad := range []struct {
		name   string
		scopes []auth.Scope
	}{{"", []auth.Scope{"read"}}, {"a b", []auth.Scope{"read"}}, {"a\nb", []auth.Scope{"read"}}, {`a"`, []auth.Scope{"read"}}, {"a", nil}, {"a", []auth.Scope{"write"}}, {"a", []auth.Scope{"read]\n  - name: x"}}} {
		if n, err := auth.MakeToken(bad.name, bad.scopes, time.Time{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q %q: %v %s", bad.name, bad.scopes, err, n.File())
		}
	}
}
