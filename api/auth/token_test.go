package auth_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
)

func TestInvalidTokenFiles(t *testing.T) {
	good := authtest.Listed("a", "x", "read")
	for content, want := range map[string]string{
		"tokens: [":                                                                 "line 1",
		"tokens:\n" + good + "  - name: b\n":                                        "line 5: sha256",
		"tokens:\n" + good + good:                                                   "line 5: name: \"a\" is listed twice",
		"tokens:\n" + good + authtest.Listed("b", "x", "run"):                       "a and b are the same token",
		"tokens:\n" + authtest.Listed("a", "x", "read, write"):                      `line 4: scopes: there is no "write"; there are read, pull, run, admin`,
		"tokens:\n" + authtest.Listed("a", "x", ""):                                 "scopes: empty",
		"tokens:\n" + authtest.Listed(`"a b"`, "x", "read"):                         "line 2: name",
		"tokens:\n" + authtest.Listed(`""`, "x", "read"):                            "line 2: name",
		"tokens:\n" + authtest.Listed(`"a\e[2J"`, "x", "read"):                      "line 2: name",
		"tokens:\n" + good + "    expires: tomorrow\n":                              "line 5: expires",
		"tokens:\n" + good + "    scope: read\n":                                    "line 5: there is no field scope",
		"tokns:\n" + good:                                                           "line 1: there is no field tokns",
		"tokens:\n" + good + "---\ntokens: []\n":                                    "more than one",
		"tokens:\n" + good + "tokens: []\n":                                         "line",
		"tokens:\n  - name: a\n    sha256: canary-clear-text\n    scopes: [read]\n": "line 3: sha256",
		"tokens: 7":                           "line 1",
		"- a":                                 "line 1",
		"certificates:\n  - scopes: [read]\n": "certificates",
		"certificates:\n  - name: a\n    scopes: [x]\n": "line 3: scopes",
		"certificates:\n  - name: a\n":                  "line 2: scopes",
		strings.Repeat("#", 2<<20):                      "larger",
		"":                                              "it is empty",
	} {
		path := authtest.File(t, content)
		_, err := auth.OpenTokens(path, logrus.New())
		switch {
		case err == nil:
			t.Errorf("%.80q is taken", content)
		case !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b"):
			t.Errorf("%.80q: %q has no %q", content, err, want)
		case strings.Contains(err.Error(), "canary"):
			t.Errorf("%.80q: %v tells a token", content, err)
		}
	}
	for _, content := range []string{"tokens:\n", "tokens: []\n", "certificates: []\n"} {
		if _, err := auth.OpenTokens(authtest.File(t, content), logrus.New()); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestTokenFileRights(t *testing.T) {
	for mode, fine := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o400: true, 0o644: true, 0o660: false, 0o602: false, 0o666: false} {
		path := authtest.File(t, both())
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		said := &bytes.Buffer{}
		l := logrus.New()
		l.SetOutput(said)
		_, err := auth.OpenTokens(path, l)
		if fine != (err == nil) || err != nil && !strings.Contains(err.Error(), "chmod") {
			t.Errorf("%v: %v", mode, err)
		}
		if warned := strings.Contains(said.String(), "chmod o-r"); warned != (mode == 0o644) {
			t.Errorf("%v: it says %q", mode, said)
		}
	}
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := auth.OpenTokens(path, logrus.New()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestReloadTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := &bytes.Buffer{}
		path := authtest.File(t, "tokens:\n"+authtest.Listed("old", "canary-old", "read"))
		tokens := authtest.Open(t, path, said)
		is := func(when string, old, fresh bool) {
			t.Helper()
			<-time.After(time.Second)
			for range 3 {
				if got, want := [2]bool{known(tokens, "canary-old"), known(tokens, "canary-new")}, [2]bool{old, fresh}; got != want {
					t.Errorf("%s: %v, not %v", when, got, want)
				}
			}
		}
		replace := func(content string) {
			t.Helper()
			if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+"~", path); err != nil {
				t.Fatal(err)
			}
		}
		is("at first", true, false)
		replace("tokens:\n" + authtest.Listed("new", "canary-new", "read"))
		is("replaced", false, true)
		replace("tokens: [")
		is("turned bad", false, true)
		if n := strings.Count(said.String(), "those that were known stay"); n != 1 {
			t.Errorf("a bad file is logged %d times:\n%s", n, said)
		}
		os.Remove(path)
		is("gone", false, true)
		if n := strings.Count(said.String(), "those that were known stay"); n != 2 {
			t.Errorf("a file that is gone is logged %d times:\n%s", n, said)
		}
		replace("tokens:\n" + authtest.Listed("old", "canary-old", "read") + authtest.Listed("new", "canary-new", "run"))
		is("back", true, true)
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		replaceMode := "tokens: []\n"
		if err := os.WriteFile(path, []byte(replaceMode), 0o600); err != nil {
			t.Fatal(err)
		}
		is("written by anyone", true, true)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		is("empty", false, false)
		soon := time.Now().Add(10 * time.Second).UTC().Format(time.RFC3339)
		replace("tokens:\n" + authtest.Listed("new", "canary-new", "run") + "    expires: " + soon + "\n")
		is("for a while", false, true)
		<-time.After(10 * time.Second)
		is("expired", false, false)
		if strings.Contains(said.String(), "canary") {
			t.Errorf("a token is in the log:\n%s", said)
		}
	})
}

func TestReloadInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := authtest.File(t, both())
		tokens := authtest.Open(t, path, io.Discard)
		if err := os.WriteFile(path, []byte("tokens: []\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if !known(tokens, boss) { // no time has passed in here
			t.Error("the file was read again at once")
		}
		<-time.After(time.Second)
		if known(tokens, boss) {
			t.Error("the file was not read again")
		}
	})
}

// Every token in the list is compared, each in the same time: the search has no
// way out before its end.
func TestConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "tokenlist.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	compares := false
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "find" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			loop, ok := n.(*ast.RangeStmt)
			if !ok {
				return true
			}
			ast.Inspect(loop, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ReturnStmt, *ast.BranchStmt:
					t.Error("the search ends before the end of the list")
				case *ast.SelectorExpr:
					compares = compares || n.Sel.Name == "ConstantTimeCompare"
				}
				return true
			})
			return false
		})
	}
	if !compares {
		t.Error("find does not compare in constant time")
	}
}

func FuzzTokenFile(f *testing.F) {
	for _, content := range []string{both(), "certificates:\n  - name: a\n    scopes: [read]\n", "tokens: &a [*a]", "tokens:\n  - <<: {name: a}\n", "tokens: {a: b}"} {
		f.Add([]byte(content))
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	path := filepath.Join(f.TempDir(), "tokens.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		tokens, err := auth.OpenTokens(path, quiet)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		if known(tokens, "canary-fuzz") && !strings.Contains(strings.ToLower(string(content)), authtest.Hash("canary-fuzz")) {
			t.Error("a token that is not listed is known")
		}
	})
}
