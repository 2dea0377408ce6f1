package auth_test

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
)

// ruled are the rules of a caller, as a token file has them.
const ruled = `    rules:
      pull:
        allow: [docker.io/library/*]
      run:
        deny: [docker.io/library/never-run]
`

func TestRules(t *testing.T) {
	for content, want := range map[string]string{
		"    rules: {pul: {}}\n":                    "there is no field pul",
		"    rules: {pull: {alow: []}}\n":           "there is no field alow",
		"    rules: {pull: {allow: [alpine]}}\n":    "line 5: token:a's rules.pull.allow: \"alpine\" does not begin with a registry",
		"    rules: {run: {policies: [x]}}\n":       "token:a's rules.run.policies: policy: \"x\"",
		"    rules: {pull: {require_digest: 7}}\n":  "line 5",
		"    rules: []\n":                           "line 5",
		"    rules: {pull: {deny: docker.io/**}}\n": "line 5",
		"    rules: {pull: {platforms: [amd64]}}\n": "rules.pull.platforms: \"amd64\"",
	} {
		path := authtest.File(t, "tokens:\n"+authtest.Listed("a", "x", "pull")+content)
		if _, err := auth.OpenTokens(path, logrus.New()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v has no %q", content, err, want)
		}
	}
	certified := "certificates:\n  - name: host\n    scopes: [pull]\n" + ruled
	authtest.Open(t, authtest.File(t, certified), io.Discard)
	bad := authtest.File(t, strings.Replace(certified, "docker.io/library/*", "alpine", 1))
	if _, err := auth.OpenTokens(bad, logrus.New()); err == nil || !strings.Contains(err.Error(), "cert:host's rules.pull.allow") {
		t.Errorf("%v", err)
	}
}

func TestAddToKeepsRules(t *testing.T) {
	path := authtest.File(t, "tokens:\n"+authtest.Listed("a", "x", "pull")+ruled)
	token, err := auth.MakeToken("b", []auth.Scope{auth.ScopePull}, time.Time{})
	if err == nil {
		err = token.AddTo(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(content), "docker.io/library/never-run") {
		t.Errorf("%s, %v", content, err)
	}
	authtest.Open(t, path, io.Discard)
}
