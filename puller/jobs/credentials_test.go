package jobs_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/redact"
)

func TestParseCredentials(t *testing.T) {
	t.Parallel()
	const secret = "hunter2?>"
	login := `{"username":"ada","password":"` + secret + `"}`
	for _, c := range []struct {
		name, header string
		ok           bool
		none         bool // the same as no header
	}{
		{"no header", "", true, true},
		{"an empty object, as Docker's client sends", encode(`{}`), true, true},
		{"empty fields", encode(`{"username":"","password":"","auth":""}`), true, true},
		{"only an address", encode(`{"serveraddress":"registry.test"}`), true, true},
		{"a login", encode(login), true, false},
		{"unpadded", base64.RawURLEncoding.EncodeToString([]byte(login)), true, false},
		{"standard alphabet", base64.StdEncoding.EncodeToString([]byte(login)), true, false},
		{"broken into lines", encode(login)[:8] + "\r\n" + encode(login)[8:], true, false},
		{"an identity token", encode(`{"identitytoken":"` + secret + `"}`), true, false},
		{"a registry token", encode(`{"registrytoken":"` + secret + `"}`), true, false},
		{"auth", encode(`{"auth":"` + secret + `"}`), true, false},
		{"a field not known", encode(`{"username":"ada","password":"x","extra":[1,{}]}`), true, false},
		{"space around", encode(" \n" + login + "\n "), true, false},
		{"16 KiB", encode(`{"username":"` + strings.Repeat("x", 12<<10-15) + `"}`), true, false},

		{"for a registry", encode(`{"username":"ada","password":"x","serveraddress":"registry.test:5000"}`), true, false},
		{"for a registry's address", encode(`{"username":"ada","password":"x","serveraddress":"https://registry.test/v2/"}`), true, false},
		{"for what is no registry", encode(`{"username":"ada","password":"x","serveraddress":"127.1"}`), false, false},
		{"for a port that is none", encode(`{"username":"ada","password":"x","serveraddress":"registry.test:0"}`), false, false},
		{"for another scheme", encode(`{"username":"ada","password":"x","serveraddress":"ftp://registry.test"}`), false, false},
		{"for a name and a registry", encode(`{"username":"ada","password":"x","serveraddress":"ada@registry.test"}`), false, false},

		{"no base64", "hunter2!", false, false},
		{"plain JSON", login, false, false},
		{"half a base64", encode(login)[:5], false, false},
		{"no JSON", encode(secret), false, false},
		{"nothing inside", "\n", false, false},
		{"an array", encode(`["` + secret + `"]`), false, false},
		{"a number", encode(`17`), false, false},
		{"a string", encode(`"` + secret + `"`), false, false},
		{"null", encode(`null`), false, false},
		{"cut JSON", encode(login[:len(login)-1]), false, false},
		{"more after it", encode(login + login), false, false},
		{"garbage after it", encode(login + secret), false, false},
		{"a password that is a number", encode(`{"username":"ada","password":22222}`), false, false},
		{"a password without user", encode(`{"password":"` + secret + `"}`), false, false},
		{"a line break in a token", encode(`{"registrytoken":"` + secret + `\r\nHost: evil.test"}`), false, false},
		{"a zero byte in a user", encode(`{"username":"ada\u0000","password":"` + secret + `"}`), false, false},
		{"fields within fields", encode(`{"username":{"username":"` + secret + `"}}`), false, false},
		{"a list of users", encode(`{"username":["` + secret + `"]}`), false, false},
		{"1 MiB", strings.Repeat("QUFB", 1<<18), false, false},
		{"above 16 KiB", encode(`{"username":"` + strings.Repeat("x", 12<<10-14) + `"}`), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := puller.ParseCredentials(c.header)
			if !c.ok {
				checkRefusal(t, err)
				if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "22222") {
					t.Errorf("the message has the secret in it: %v", err)
				}
				return
			}
			if err != nil || (got == puller.Credentials{}) != c.none {
				t.Fatalf("%v, %v", got, err)
			}
			checkHeader(t, got)
		})
	}
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "X-Registry-Auth: ") {
		t.Fatalf("it is not refused as it should be: %v", err)
	}
}

// checkHeader checks that engines can read the header: they ignore all but
// padded base64url.
func checkHeader(t *testing.T, c puller.Credentials) {
	t.Helper()
	header := c.Header()
	if header == "" {
		return
	}
	raw, err := base64.URLEncoding.Strict().DecodeString(header)
	if err == nil {
		err = json.Unmarshal(raw, &map[string]any{})
	}
	if err != nil || strings.ContainsAny(header, "\r\n") {
		t.Errorf("no engine reads the header: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	t.Run("identity", testCredentialsIdentity)
	t.Run("are never printed", testCredentialsAreNeverPrinted)
	t.Run("echoed by registry", testCredentialsEchoedByRegistry)
	t.Run("withheld", testCredentialsWithheld)
}

func testCredentialsIdentity(t *testing.T) {
	const login = `{"username":"ada","password":"hunter2?>"}`
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		for _, header := range []string{encode(login), base64.RawURLEncoding.EncodeToString([]byte(login)), base64.StdEncoding.EncodeToString([]byte(login))} {
			c, err := puller.ParseCredentials(header)
			if err != nil {
				d.Fatal(err)
			}
			d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: c})
		}
		d.wantPulls(1)
		if got := d.engine.LastAuth(); got != encode(`{"username":"ada","password":"hunter2?\u003e","serveraddress":"registry.test"}`) {
			d.Errorf("the engine got %q", got)
		}
		release()
	})
}

func testCredentialsAreNeverPrinted(t *testing.T) {
	c := credentials(t, "hunter2")
	request := puller.PullRequest{Image: good, Credentials: c}
	for _, v := range []any{
		c, &c, request, &request, []puller.PullRequest{request}, map[string]puller.Credentials{"c": c},
		puller.Pull{Image: good, Credentials: c}, struct{ C any }{c}, fmt.Errorf("with %v", c),
	} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if got := fmt.Sprintf(format, v); strings.Contains(got, "hunter2") || strings.Contains(got, c.Header()) || strings.Contains(got, fmt.Sprintf("%x", c.Header())) {
				t.Errorf("%s of a %T has the secret in it: %s", format, v, got)
			}
		}
		if got, _ := json.Marshal(v); strings.Contains(string(got), c.Header()) {
			t.Errorf("the JSON of a %T has the secret in it: %s", v, got)
		}
	}
	if puller.Credentials.String(c) == puller.Credentials.String(puller.Credentials{}) {
		t.Error("whether there are credentials can't be told")
	}
}

func FuzzParseCredentials(f *testing.F) {
	for _, json := range []string{``, `{}`, `{"username":"ada","password":"hunter2"}`, `[]`, `17`, `null`, `{"password":"x"}`, `{"auth":"x"} {}`} {
		f.Add(encode(json))
		f.Add(base64.RawStdEncoding.EncodeToString([]byte(json)))
		f.Add(json)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := puller.ParseCredentials(header)
		if err != nil {
			checkRefusal(t, err)
			// The message is one of a few, whatever the header holds.
			if len(err.Error()) > 200 {
				t.Errorf("the message has outside text in it: %v", err)
			}
			return
		}
		checkHeader(t, c)
		if again, err := puller.ParseCredentials(c.Header()); err != nil || again != c {
			t.Errorf("%q is not read as it was written: %v", c.Header(), err)
		}
	})
}

func testCredentialsEchoedByRegistry(t *testing.T) {
	c, err := puller.ParseCredentials(encode(`{"username":"ada","password":"hunter2?>","identitytoken":"canary-token"}`))
	if err != nil {
		t.Fatal(err)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("ada:hunter2?>"))
	echo := "denied: ada may not, with hunter2?> nor canary-token nor Basic " + basic + " nor " + c.Header()
	withDaemon(t, func(d *daemon) {
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(`{"status":"WARNING: ` + echo + `"}`)
			p.Fail(echo)
		})
		j := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: c})
		v := d.failed(j, puller.ErrDenied)
		d.close()
		for what, text := range map[string]string{"error": v.Error.Message, "log": d.log.String(), "events": strings.Join(d.lines(j), "")} {
			for _, secret := range []string{"hunter2", "canary-token", basic, c.Header()} {
				if strings.Contains(text, secret) {
					t.Errorf("the %s has %q in it: %s", what, secret, text)
				}
			}
			if !strings.Contains(text, "ada may not") {
				t.Errorf("the %s says nothing any more: %s", what, text)
			}
		}
	})
	if short, err := puller.ParseCredentials(encode(`{"username":"a","password":"e"}`)); err != nil || redact.Of(short).Text("denied: neither") != "denied: neither" {
		t.Error("what is no secret is hidden")
	}
}

// A caller whose credentials were not shown is told why its pull was denied.
func testCredentialsWithheld(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(`{"errorDetail":{"message":"Head \"https://registry.test/v2/good/manifests/v1\": no basic auth credentials"},"error":"Head \"https://registry.test/v2/good/manifests/v1\": no basic auth credentials"}`)
		})
		for server, told := range map[string]bool{"other.test:5000": true, "registry.test": false} {
			c, err := puller.ParseCredentials(encode(`{"username":"ada","password":"x","serveraddress":"` + server + `"}`))
			if err != nil {
				t.Fatal(err)
			}
			v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: c}), puller.ErrDenied)
			const words = "the credentials of the request are for other.test:5000, so they were not shown to registry.test"
			if strings.Contains(v.Error.Message, words) != told {
				t.Errorf("with credentials for %s: %s", server, v.Error.Message)
			}
		}
	})
}
