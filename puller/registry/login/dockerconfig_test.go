package login_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

// helper puts a credential helper into PATH. It records the keys that it is asked for.
func helper(t *testing.T, dir, name, script string) (asked func() []string) {
	t.Helper()
	log := filepath.Join(dir, "asked-"+name)
	write(t, filepath.Join(dir, "bin", "docker-credential-"+name), "#!/bin/sh\nread key\necho \"$key\" >>"+log+"\n"+script+"\n", 0o700)
	if path := os.Getenv("PATH"); !strings.HasPrefix(path, dir) {
		t.Setenv("PATH", filepath.Join(dir, "bin")+":"+path)
	}
	return func() []string {
		raw, _ := os.ReadFile(log)
		return strings.Fields(string(raw))
	}
}

func encoded(login string) string { return base64.StdEncoding.EncodeToString([]byte(login)) }

const (
	gives   = `echo '{"Username":"helper","Secret":"` + secret + `"}'`
	lacks   = `echo 'credentials not found in native keychain'; exit 1`
	fails   = `echo ` + secret + `; echo ` + secret + ` >&2; exit 1`
	garbles = `echo ` + secret
)

func TestDockerConfig(t *testing.T) {
	login := func(user string) string { return `{"auth": "` + encoded(user+":"+secret) + `"}` }
	for _, c := range []struct {
		name, config, image, script string
		user, server                string
		keys                        string // that the helper is asked for
		faults                      string // words in the error
	}{
		{"a host", `{"auths": {"a.test": ` + login("file") + `}}`, "a.test/team/app:v1", "", "file", "a.test", "", ""},
		{"a host and port", `{"auths": {"a.test": ` + login("other") + `, "a.test:5000": ` + login("file") + `}}`, "a.test:5000/app:v1", "", "file", "a.test:5000", "", ""},
		{"a host as it is written", `{"auths": {"a.test:443": ` + login("written") + `, "a.test": ` + login("canonical") + `}}`, "a.test:443/app:v1", "", "written", "a.test:443", "", ""},
		{"a host that is written otherwise", `{"auths": {"a.test": ` + login("file") + `}}`, "A.test:0443/app:v1", "", "file", "A.test:0443", "", ""},
		{"an old URL", `{"auths": {"https://a.test/v2/": ` + login("file") + `}}`, "a.test/app:v1", "", "file", "a.test", "", ""},
		{"a key before an old URL", `{"auths": {"https://a.test/v2/": ` + login("old") + `, "a.test": ` + login("file") + `}}`, "a.test/app:v1", "", "file", "a.test", "", ""},
		{"Docker Hub", `{"auths": {"https://index.docker.io/v1/": ` + login("hub") + `}}`, "docker.io/library/alpine:v1", "", "hub", "https://index.docker.io/v1/", "", ""},
		{"Docker Hub by another name", `{"auths": {"https://index.docker.io/v1/": ` + login("hub") + `}}`, "registry-1.docker.io/library/alpine:v1", "", "hub", "registry-1.docker.io", "", ""},
		{"another registry", `{"auths": {"a.test": ` + login("file") + `, "https://index.docker.io/v1/": ` + login("hub") + `}}`, "b.test/app:v1", "", "", "", "", ""},
		{"an identity token", `{"auths": {"a.test": {"identitytoken": "` + secret + `"}}}`, "a.test/app:v1", "", "", "a.test", "", ""},
		{"another login that is broken", `{"auths": {"b.test": {"auth": 17}, "a.test": ` + login("file") + `}}`, "a.test/app:v1", "", "file", "a.test", "", ""},

		{"a helper", `{"credHelpers": {"a.test": "x"}}`, "a.test/team/app:v1", gives, "helper", "a.test", "a.test", ""},
		{"a helper for Docker Hub", `{"credsStore": "x"}`, "docker.io/library/alpine:v1", gives, "helper", "https://index.docker.io/v1/", "https://index.docker.io/v1/", ""},
		{"a helper before a store", `{"credsStore": "none", "credHelpers": {"a.test": "x"}}`, "a.test/app:v1", gives, "helper", "a.test", "a.test", ""},
		{"a store without it", `{"credsStore": "x"}`, "a.test/app:v1", lacks, "", "", "a.test", ""},
		{"a store without it, and the file", `{"credsStore": "x", "auths": {"a.test": ` + login("file") + `}}`, "a.test/app:v1", lacks, "file", "a.test", "a.test", ""},
		{"a store that fails, and the file", `{"credsStore": "x", "auths": {"a.test": ` + login("file") + `}}`, "a.test/app:v1", fails, "file", "a.test", "a.test", ""},
		{"a program that is missing, and the file", `{"credsStore": "none", "auths": {"a.test": ` + login("file") + `}}`, "a.test/app:v1", "", "file", "a.test", "", ""},
		{"a helper that fails for one key", `{"credHelpers": {"a.test:443": "x"}, "auths": {"a.test": ` + login("file") + `}}`, "a.test:443/app:v1", fails, "file", "a.test:443", "a.test:443", ""},

		{"a store that fails", `{"credsStore": "x", "auths": {"a.test": {}}}`, "a.test/app:v1", fails, "", "", "a.test", "docker-credential-x failed config.json"},
		{"a store that says no login", `{"credsStore": "x"}`, "a.test/app:v1", garbles, "", "", "a.test", "docker-credential-x failed config.json"},
		{"a program that is missing", `{"credHelpers": {"a.test": "none"}}`, "a.test/app:v1", "", "", "", "", "docker-credential-none does not exist config.json"},
		{"a program that is none", `{"credsStore": "../../bin/sh"}`, "a.test/app:v1", "", "", "", "", "no name of a credential helper"},
		{"a broken file", `{"auths": {"a.test": ` + secret, "a.test/app:v1", "", "", "", "", "config.json is not the JSON"},
		{"a broken login", `{"auths": {"a.test": {"auth": "` + secret + `"}}}`, "a.test/app:v1", "", "", "", "", "the login for a.test in config.json"},
		{"an empty file", "\n", "a.test/app:v1", "", "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := home(t, c.config)
			asked := helper(t, dir, "x", c.script)
			got, err := newLogins(t, true).Credentials(t.Context(), c.image)
			fields := fieldsOf(t, got)
			if fields["username"] != c.user || fields["serveraddress"] != c.server {
				t.Errorf("credentials %v, %v", fields, err)
			}
			if keys := strings.Join(asked(), " "); keys != c.keys {
				t.Errorf("the helper was asked for %q", keys)
			}
			if (err != nil) != (c.faults != "") {
				t.Fatalf("the error is %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || puller.KindOf(err) != puller.ErrInternal) {
				t.Errorf("the error is %v", err)
			}
			for word := range strings.FieldsSeq(c.faults) {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
		})
	}
}

func TestDockerConfigFiles(t *testing.T) {
	login := func(user string) string { return `{"auths": {"a.test": {"auth": "` + encoded(user+":"+secret) + `"}}}` }
	dir := home(t, login("home"))
	find := func(want string) {
		t.Helper()
		got, err := newLogins(t, true).Credentials(t.Context(), "a.test/app:v1")
		if err != nil || fieldsOf(t, got)["username"] != want {
			t.Errorf("credentials %v, %v, not those of %s", fieldsOf(t, got), err, want)
		}
	}
	find("home")
	write(t, filepath.Join(dir, "run", "containers", "auth.json"), login("podman"), 0o600)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	find("home")
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "elsewhere"))
	find("podman")
	write(t, filepath.Join(dir, "elsewhere", "config.json"), login("elsewhere"), 0o600)
	find("elsewhere")
	t.Setenv("DOCKER_AUTH_CONFIG", login("variable"))
	find("variable")
}
