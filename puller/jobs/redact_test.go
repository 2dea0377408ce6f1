package jobs_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/redact"
)

// secrets are passwords and tokens that are awkward in one form or another.
var secrets = []string{
	"hunter2-of-ada", `pass word&<>'"+/=%`, "pä€😀ss wörd", `back\slash"and"quote`, "a+b c/d?e#f", "%41%20+%2B", "tab\tand~tilde", `\\\"\"`, "<script>&amp;", "12345678", "bell\aback\bfeed\ftab\v!",
	"eyJhbGciOiJFUzI1NiJ9." + strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo-_", 8) + ".c2ln",
}

// formsOf are the ways in which a secret was seen to come back.
func formsOf(user, secret string) map[string]string {
	percent := func(format string) string {
		var b strings.Builder
		for _, c := range []byte(secret) {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, format, c)
			}
		}
		return b.String()
	}
	entities := func(format string) string {
		var b strings.Builder
		for _, r := range secret {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				b.WriteRune(r)
			} else {
				fmt.Fprintf(&b, format, r)
			}
		}
		return b.String()
	}
	inJSON, _ := json.Marshal(secret)
	var unescaped strings.Builder
	e := json.NewEncoder(&unescaped)
	e.SetEscapeHTML(false)
	e.Encode(secret)
	twice, _ := json.Marshal(string(inJSON))
	login := user + ":" + secret
	body, _ := json.Marshal(map[string]string{"password": secret, "username": user})
	quoted := fmt.Sprintf("%q", secret)
	return map[string]string{
		"raw": secret, "Go": quoted, "Go twice": fmt.Sprintf("%q", quoted), "Go in ASCII": fmt.Sprintf("%+q", secret), "hex": hex.EncodeToString([]byte(secret)), "HEX": fmt.Sprintf("%X", secret),
		"query": url.QueryEscape(secret), "path": url.PathEscape(secret), "query twice": url.QueryEscape(url.QueryEscape(secret)), "percent": percent("%%%02X"), "percent in lower case": percent("%%%02x"),
		"userinfo": url.UserPassword(user, secret).String(), "form": url.Values{"password": {secret}}.Encode(), "space as %20": strings.ReplaceAll(url.QueryEscape(secret), "+", "%20"),
		"JSON": string(inJSON), "plain JSON": unescaped.String(), "JSON twice": string(twice), "JSON in a query": url.QueryEscape(string(inJSON)), "slashes escaped": strings.ReplaceAll(unescaped.String(), "/", `\/`),
		"HTML": html.EscapeString(secret), "HTML twice": html.EscapeString(html.EscapeString(secret)), "entities": entities("&#%d;"), "hex entities": entities("&#x%X;"), "JavaScript": template.JSEscapeString(secret),
		"template": template.HTMLEscapeString(secret), "HTML of JSON": html.EscapeString(string(inJSON)),
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64url": base64.URLEncoding.EncodeToString([]byte(secret)),
		"base64 unpadded": base64.RawStdEncoding.EncodeToString([]byte(secret)), "base64url unpadded": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"login": base64.StdEncoding.EncodeToString([]byte(login)), "login in base64url": base64.RawURLEncoding.EncodeToString([]byte(login)), "login in a query": url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(login))),
		"header": base64.URLEncoding.EncodeToString(body), "header in base64": base64.RawStdEncoding.EncodeToString(body), "login as it is": login,
	}
}

// shows reports whether a text still has something of a secret in it, as it is or
// in base64.
func shows(text, secret, form string) bool {
	if strings.Contains(text, secret) || strings.Contains(text, form) {
		return true
	}
	for token := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_", r)
	}) {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if raw, err := enc.DecodeString(token); err == nil && strings.Contains(string(raw), secret) {
				return true
			}
		}
	}
	return false
}

func secretFields(t testing.TB, field, secret string) puller.Credentials {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"username": "ada", field: secret})
	c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString(body))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRedact(t *testing.T) {
	t.Parallel()
	t.Run("forms", testRedactForms)
	t.Run("only secrets", testRedactOnlySecrets)
	t.Run("short secret", testRedactShortSecret)
	t.Run("cut secret", testRedactCutSecret)
	t.Run("everywhere", testRedactEverywhere)
	t.Run("short password in header", testRedactShortPasswordInHeader)
}

func testRedactForms(t *testing.T) {
	for i, secret := range secrets {
		for _, field := range []string{"password", []string{"identitytoken", "registrytoken"}[i%2]} {
			c := redact.Of(secretFields(t, field, secret))
			for name, form := range formsOf("ada", secret) {
				for _, around := range []string{"denied: %s is wrong", `Get "https://registry.test/v2/?p=%s&q=1": EOF`} {
					text := fmt.Sprintf(around, form)
					got := c.Text(text)
					if shows(got, secret, form) {
						t.Errorf("%s of the %s %.40q stays in %.200q", name, field, secret, got)
					}
					if !strings.HasPrefix(got, around[:strings.IndexByte(around, '%')][:min(1, strings.IndexByte(around, '%'))]) {
						t.Errorf("%q has become %q", text, got)
					}
				}
			}
		}
	}
}

func testRedactOnlySecrets(t *testing.T) {
	c := secretFields(t, "password", "hunter2-of-ada")
	for _, text := range []string{
		"", "denied: requested access to the resource is denied", "manifest for registry.test/app:v1 not found", "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf",
		"hunter2", "ada", "Pulling from team/app", "a+b%20c&amp;d\\\"e…", "…", "hunter…",
	} {
		if got := redact.Of(c).Text(text); got != text && !strings.HasPrefix(text, "hunter") {
			t.Errorf("%q has become %q", text, got)
		}
	}
	if got := redact.Of(puller.Credentials{}).Text("hunter2"); got != "hunter2" {
		t.Errorf("without credentials: %q", got)
	}
}

// A secret of one to three bytes is in too many words that are none.
func testRedactShortSecret(t *testing.T) {
	for _, c := range []struct{ secret, text, want string }{
		{"a", "a password a, \"a\" and pw=a: manifest", "(hidden) password (hidden), \"(hidden)\" and pw=(hidden): manifest"},
		{"pw", "https://ada:pw@registry.test/pwd", "https://(hidden)@registry.test/pwd"},
		{"pw", "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:pw")), "Basic (hidden)"},
		{"pw", "base64 " + base64.StdEncoding.EncodeToString([]byte("pw")) + ".", "base64 (hidden)."},
		{"a&b", "p=a%26b; a&amp;b; a\\u0026b; a&b; xa&by", "p=(hidden); (hidden); (hidden); (hidden); xa&by"},
		{"é", "é %C3%A9 &#233; caf\u00e9", "(hidden) (hidden) (hidden) caf(hidden)"},
	} {
		if got := redact.Of(secretFields(t, "password", c.secret)).Text(c.text); got != c.want {
			t.Errorf("%q in %q leaves %q", c.secret, c.text, got)
		}
	}
}

func testRedactCutSecret(t *testing.T) {
	c := secretFields(t, "password", `hunter2 of "ada" and eve`)
	for _, text := range []string{"it said: hunter2 of…", "it said: hunter2%20of%20%22ad...", `it said: "hunter2 of \"ada\" an…" (once)`, "it said: hunt…"} {
		if got := redact.Of(c).Text(text); strings.Contains(got, "hunt") || !strings.HasPrefix(got, "it said: ") {
			t.Errorf("%q has become %q", text, got)
		}
	}
	if got := redact.Of(c).Text("it said: hunter2 of"); got != "it said: hunter2 of" {
		t.Errorf("what was not cut has become %q", got)
	}
}

// Whatever an engine is shown does not come back, wherever the engine says it.
func testRedactEverywhere(t *testing.T) {
	awkward := secrets[1:4]
	places := map[string]func(*enginetest.Pull, string){
		"an error":  func(p *enginetest.Pull, s string) { p.Fail("unauthorized: " + s) },
		"a refusal": func(p *enginetest.Pull, s string) { p.Refuse(500, "denied: "+s) },
		"a notice": func(p *enginetest.Pull, s string) {
			p.Line(lineOf(map[string]any{"status": "WARNING: " + s}))
			p.Fail("denied")
		},
		"a layer's ID": func(p *enginetest.Pull, s string) {
			for _, id := range append(strings.Split(s, " | "), s) { // an ID with spaces in it is shown by nothing
				p.Line(lineOf(map[string]any{"status": "Downloading", "id": id, "progressDetail": map[string]int{"current": 1, "total": 2}}))
			}
			p.Fail("denied")
		},
		"a layer's status": func(p *enginetest.Pull, s string) {
			p.Line(lineOf(map[string]any{"status": s, "id": "0123456789ab"}))
			p.Fail("denied")
		},
		"a digest": func(p *enginetest.Pull, s string) {
			p.Line(lineOf(map[string]any{"status": "Digest: " + s}))
			p.Line(lineOf(map[string]any{"status": "Status: Downloaded newer image for " + s}))
		},
		"the old error":   func(p *enginetest.Pull, s string) { p.Line(lineOf(map[string]any{"error": "unauthorized: " + s})) },
		"what is no line": func(p *enginetest.Pull, s string) { p.Line("unauthorized " + s) },
		"units": func(p *enginetest.Pull, s string) {
			p.Line(lineOf(map[string]any{"status": "Extracting", "id": "0123456789ab", "progressDetail": map[string]any{"current": 1, "units": s}}))
			p.Fail("denied")
		},
	}
	for place, say := range places {
		t.Run(place, func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				told := make(map[string]string) // by what it is
				for n, secret := range awkward {
					// All forms at once, each as a word of its own.
					said := strings.Join(slices.Sorted(maps.Values(formsOf("ada", secret))), " | ")
					image := fmt.Sprintf("registry.test/%d:v1", n)
					d.engine.Script(image, func(p *enginetest.Pull) { say(p, said) })
					none := 0
					j := d.submit(puller.PullRequest{Image: image, Policy: puller.PolicyAlways, Credentials: secretFields(d, "password", secret), Retries: &none})
					v := d.end(j)
					told["job of "+secret] = fmt.Sprintf("%+v %+v %+v", v, v.Error, v.Result)
					told["events of "+secret] = strings.Join(d.lines(j), "")
					told["record of "+secret] = d.record(j)
				}
				d.close()
				told["log"] = d.log.String()
				for what, text := range told {
					for _, secret := range awkward {
						for name, form := range formsOf("ada", secret) {
							if strings.Contains(text, form) {
								d.Errorf("%s of %.40q is in the %s: %.600s", name, secret, what, text)
							}
						}
					}
				}
			})
		})
	}
}

func lineOf(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// A short password has few digits of its own in base64 of the whole header.
func testRedactShortPasswordInHeader(t *testing.T) {
	for _, secret := range []string{"1234", "a+b/", "pä1"} {
		for name, form := range formsOf("0", secret) {
			if got := redact.Of(secretFields(t, "password", secret)).Text("denied: " + form + " is wrong"); strings.HasPrefix(name, "header") && shows(got, secret, form) {
				t.Errorf("%s of %q stays in %q", name, secret, got)
			}
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range secrets {
		f.Add("ada", s, "denied: ", " is wrong…")
	}
	f.Fuzz(func(t *testing.T, user, secret, before, after string) {
		body, _ := json.Marshal(map[string]string{"username": user, "password": secret})
		c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString(body))
		if err != nil || len(secret) < 4 || c == (puller.Credentials{}) {
			return
		}
		var fields struct{ Username, Password string }
		json.Unmarshal(body, &fields) // what was no UTF-8 is another text now
		if len(fields.Password) > 100 {
			return // known by its ends
		}
		r := redact.Of(c)
		for name, form := range formsOf(fields.Username, fields.Password) {
			if got := r.Text(before + form + after); len(form) >= 4 && shows(got, fields.Password, form) && !strings.Contains("(hidden)"+before+after, form) && !strings.Contains("(hidden)"+before+after, fields.Password) {
				t.Errorf("%s of %q stays in %q", name, fields.Password, got)
			}
		}
	})
}
