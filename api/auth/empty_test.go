package auth_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
)

// may returns the scopes of a caller with a certificate, or "unknown".
func may(tokens *auth.Tokens, name string) string {
	r := httptest.NewRequest("GET", "/", nil)
	certificate := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}, VerifiedChains: [][]*x509.Certificate{{certificate}}}
	c, err := auth.Identify(r, tokens, auth.NewSessions())
	if err != nil {
		return "unknown"
	}
	return fmt.Sprint(c.Scopes)
}

// The table of SECURITY.md, as far as it is about the token file.
func TestEmptyKeys(t *testing.T) {
	one := "tokens:\n" + authtest.Listed("a", "canary-a", "read")
	const listed = "certificates:\n  - name: host\n    scopes: [read]\n"
	for content, want := range map[string]struct {
		host, other string
		token       bool
	}{
		one:                               {"[admin]", "[admin]", true}, // the key is not there
		one + listed:                      {"[read]", "unknown", true},
		one + "certificates:\n":           {"unknown", "unknown", true},
		one + "certificates: ~\n":         {"unknown", "unknown", true},
		one + "certificates: null\n":      {"unknown", "unknown", true},
		one + "certificates: []\n":        {"unknown", "unknown", true},
		one + "certificates: !!null ''\n": {"unknown", "unknown", true},
		one + "x-none: &none ~\n":         {},
		one + strings.ReplaceAll("certificates:\n"+listed[len("certificates:\n"):], "\n  ", "\n#  "): {"unknown", "unknown", true},
		listed + "tokens:\n":             {"[read]", "unknown", false},
		listed + "tokens: []\n":          {"[read]", "unknown", false},
		listed:                           {"[read]", "unknown", false},
		"tokens: []\ncertificates: []\n": {"unknown", "unknown", false},
		// None of these is taken.
		one + "certificates: {}\n":                                                  {},
		one + "certificates: ''\n":                                                  {},
		one + "certificates: false\n":                                               {},
		one + "certificates:\n  -\n":                                                {"unknown", "unknown", true},
		one + "certificates: [{}]\n":                                                {},
		one + "Certificates: []\n":                                                  {},
		one + listed + "certificates: []\n":                                         {},
		one + strings.Replace(listed, "[read]", "", 1):                              {},
		one + strings.Replace(listed, "[read]", "[]", 1):                            {},
		one + strings.Replace(listed, "[read]", "[~]", 1):                           {},
		one + strings.Replace(listed, "[read]", "#[read]", 1):                       {},
		strings.Replace(one, "[read]", "", 1):                                       {},
		strings.Replace(one, "[read]", "[]", 1):                                     {},
		one + "    expires:\n":                                                      {},
		one + "    expires: ''\n":                                                   {},
		one + "    rules:\n":                                                        {},
		one + "    rules: ~\n":                                                      {},
		one + "    rules: # {pull: {deny: [docker.io/**]}}\n":                       {},
		one + "    rules: {pull: }\n":                                               {},
		one + "    rules:\n      run:\n        # deny: [docker.io/**]\n":            {},
		one + "    rules: {pull: {allow: }}\n":                                      {},
		one + "    rules: {pull: {deny: ~}}\n":                                      {},
		one + "    rules:\n      pull:\n        allow:\n        # - docker.io/**\n": {},
		one + "    rules: {run: {policies: }}\n":                                    {},
		one + "    rules: {run: {platforms: null}}\n":                               {},
		one + "    rules: {run: {require_digest: }}\n":                              {},
		one + "    rules: {run: {require_digest: ''}}\n":                            {},
		one + "    rules: {pull: {allow: ''}}\n":                                    {},
		one + "    rules: {pull: {allow: []}}\n":                                    {},
		one + "    rules: {run: {policies: []}}\n":                                  {},
		one + "    rules: {run: {platforms: []}}\n":                                 {},
		one + "    rules: {pull: {allow: [~]}}\n":                                   {},
		one + "    rules: {pull: {policies: ['']}}\n":                               {},
		one + "    rules: {pull: {platforms: [~]}}\n":                               {},
		one + "    rules: &r {pull: *r}\n":                                          {},
		one + "    rules: {pull: {allow: &none ~, deny: *none}}\n":                  {},
		one + "    rules: {pull: {policies: &p [~], deny: *p}}\n":                   {},
		listed + "    rules: {pull: {allow: }}\n":                                   {},
		"tokens:\n" + authtest.Listed("a", "", "admin"):                             {}, // the hash of nothing
		// Nothing is in these at all.
		"": {}, "\n \n": {}, "# tokens:\n": {}, "---\n": {}, "~\n": {}, "null\n": {}, "...\n": {}, "{}\n": {"[admin]", "[admin]", false},
	} {
		tokens, err := auth.OpenTokens(authtest.File(t, content), logrus.New())
		switch {
		case want.host == "":
			if err == nil {
				t.Errorf("%q is taken", content)
			} else if strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("%q: %q", content, err)
			}
		case err != nil:
			t.Errorf("%q: %v", content, err)
		default:
			if host, other, token := may(tokens, "host"), may(tokens, "other"), known(tokens, "canary-a"); host != want.host || other != want.other || token != want.token {
				t.Errorf("%q: %s, %s and %v; want %+v", content, host, other, token, want)
			}
		}
		if err == nil && known(tokens, "") {
			t.Errorf("%q: an empty token is known", content)
		}
	}
}

func TestReloadOfBrokenFile(t *testing.T) {
	whole := "tokens:\n" + authtest.Listed("a", "canary-a", "read") + "certificates:\n  - name: host\n    scopes: [read]\n"
	for content, logged := range map[string]string{
		"": "it is empty", "# tokens:\n": "it is empty", "---\n": "it is empty", whole[:len(whole)-3]: "can't be read",
		"tokens:\n" + authtest.Listed("a", "canary-a", "read"):                  "the key certificates is not there any more",
		"tokens:\n" + authtest.Listed("a", "canary-a", "read") + "    rules:\n": "rules: it has no value",
	} {
		synctest.Test(t, func(t *testing.T) {
			said := &bytes.Buffer{}
			path := authtest.File(t, whole)
			tokens := authtest.Open(t, path, said)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second)
			for range 2 {
				if host, other := may(tokens, "host"), may(tokens, "other"); host != "[read]" || other != "unknown" || !known(tokens, "canary-a") {
					t.Errorf("%q: %s and %s", content, host, other)
				}
			}
			if n := strings.Count(said.String(), logged); n != 1 || !strings.Contains(said.String(), "level=error") {
				t.Errorf("%q: logged %d times:\n%s", content, n, said)
			}
			if err := os.WriteFile(path, []byte("tokens: []\ncertificates: []\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second)
			if host := may(tokens, "host"); host != "unknown" || known(tokens, "canary-a") {
				t.Errorf("%q: what is whole again is not taken: %s", content, host)
			}
		})
	}
}

// Half of a file can be a whole one that says less: one that was written to a
// moment ago may be written to again.
func TestReloadWaitsForWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := authtest.File(t, "tokens:\n"+authtest.Listed("a", "canary-a", "read"))
		tokens := authtest.Open(t, path, &bytes.Buffer{})
		write := func(content string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(800 * time.Millisecond)
		write("tokens: []\n")
		if !known(tokens, "canary-a") {
			t.Error("a file that was just written to is read")
		}
		<-time.After(100 * time.Millisecond)
		write("tokens:\n" + authtest.Listed("a", "canary-a", "read") + authtest.Listed("b", "canary-b", "read"))
		if !known(tokens, "canary-a") || known(tokens, "canary-b") {
			t.Error("a file that was just written to is read")
		}
		<-time.After(200 * time.Millisecond)
		if !known(tokens, "canary-a") || !known(tokens, "canary-b") {
			t.Error("a file that is whole is not read")
		}
		write("tokens: []\n")
		<-time.After(time.Second)
		if known(tokens, "canary-a") {
			t.Error("a token is known a second after it was taken out")
		}
	})
}

func TestAddToEmptyFile(t *testing.T) {
	for _, content := range []string{"", "# who may call\n", "tokens:\n"} {
		path := authtest.File(t, content)
		token, err := auth.MakeToken("b", []auth.Scope{auth.ScopePull}, time.Time{})
		if err == nil {
			err = token.AddTo(path)
		}
		if err != nil || !known(authtest.Open(t, path, &bytes.Buffer{}), token.Token) {
			t.Errorf("%q: %v", content, err)
		}
	}
}
