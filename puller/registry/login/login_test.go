package login_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "hunter2-of-ada"

func newLogins(t *testing.T, docker bool, configured ...login.Login) *login.Logins {
	t.Helper()
	l, err := login.New(configured, docker)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fieldsOf decodes credentials.
func fieldsOf(t *testing.T, c puller.Credentials) map[string]string {
	t.Helper()
	if c.Header() == "" {
		return nil
	}
	raw, err := base64.URLEncoding.DecodeString(c.Header())
	fields := make(map[string]string)
	if err == nil {
		err = json.Unmarshal(raw, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// home makes a home directory with this config.json.
func home(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", dir)
	write(t, filepath.Join(dir, ".docker", "config.json"), config, 0o600)
	return dir
}

func TestCredentials(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("docker:" + secret))
	dir := home(t, `{"auths": {"https://index.docker.io/v1/": {"auth": "`+auth+`"}, "ghcr.io": {"auth": "`+auth+`"}},
		"credHelpers": {"helped.test": "canned", "broken.test": "broken", "missing.test": "not-there"}}`)
	bin := filepath.Join(dir, "bin")
	write(t, filepath.Join(bin, "docker-credential-canned"), "#!/bin/sh\necho '{\"Username\":\"helper\",\"Secret\":\""+secret+"\"}'\n", 0o700)
	write(t, filepath.Join(bin, "docker-credential-broken"), "#!/bin/sh\necho "+secret+"\nexit 1\n", 0o700)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	password := write(t, filepath.Join(dir, "password"), secret+"\n", 0o600)
	c := newLogins(t, true,
		login.Login{Registry: "ghcr.io", Username: "configured", PasswordFile: password},
		login.Login{Registry: "empty.test", Username: "x", PasswordFile: write(t, filepath.Join(dir, "empty"), "\n", 0o600)},
		login.Login{Registry: "gone.test", Username: "x", PasswordFile: filepath.Join(dir, "gone")},
		login.Login{Registry: "lines.test", Username: "x", PasswordFile: write(t, filepath.Join(dir, "lines"), "a\nb\n", 0o600)},
	)
	for _, row := range []struct{ image, user, server string }{
		{"docker.io/library/alpine:3.20", "docker", "https://index.docker.io/v1/"},
		{"ghcr.io/team/app:v1", "configured", "ghcr.io"}, // before Docker's
		{"helped.test/app:v1", "helper", "helped.test"},
		{"nothing.test/app:v1", "", ""},
	} {
		got, err := c.Credentials(t.Context(), row.image)
		fields := fieldsOf(t, got)
		if err != nil || fields["username"] != row.user || fields["serveraddress"] != row.server || row.user != "" && fields["password"] != secret {
			t.Errorf("%s: %v, %v", row.image, fields, err)
		}
	}
	for _, image := range []string{"broken.test/app:v1", "empty.test/app:v1", "gone.test/app:v1", "lines.test/app:v1"} {
		got, err := c.Credentials(t.Context(), image)
		if got != (puller.Credentials{}) || puller.KindOf(err) != puller.ErrInternal || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, %v", image, got, err)
		}
	}
	write(t, password, "another\n", 0o600)
	if got, err := c.Credentials(t.Context(), "ghcr.io/team/app:v1"); err != nil || fieldsOf(t, got)["password"] != "another" {
		t.Errorf("a new password is not read: %v", err)
	}
	without := newLogins(t, false)
	if got, err := without.Credentials(t.Context(), "docker.io/library/alpine:3.20"); err != nil || got != (puller.Credentials{}) {
		t.Errorf("without Docker: %v, %v", got, err)
	}
}

func TestInvalidLogins(t *testing.T) {
	good := login.Login{Registry: "ghcr.io", Username: "ci", PasswordFile: "/p"}
	for want, logins := range map[string][]login.Login{
		`registries.credentials[0].registry: "https://ghcr.io"`: {{Registry: "https://ghcr.io", Username: "ci", PasswordFile: "/p"}},
		`registries.credentials[0].registry: ""`:                {{Username: "ci", PasswordFile: "/p"}},
		"registries.credentials[1].registry: ghcr.io is listed": {good, good},
		"registries.credentials[0].username: missing":           {{Registry: "ghcr.io", PasswordFile: "/p"}},
		`registries.credentials[0].password_file: "p"`:          {{Registry: "ghcr.io", Username: "ci", PasswordFile: "p"}},
	} {
		if _, err := login.New(logins, false); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", logins, err)
		}
	}
}
