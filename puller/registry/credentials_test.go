package registry_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
	logins "github.com/towline/towline/puller/registry/login"
)

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

func TestHeadOwnCredentials(t *testing.T) {
	f := newFakeRegistry(t, challenge("Basic"), byPassword)
	password := write(t, filepath.Join(t.TempDir(), "password"), secret, 0o600)
	c := newClientWith(t, registry.Options{
		AllowPrivate: []string{"127.0.0.1"}, Logins: []logins.Login{{Registry: f.host, Username: "ada", PasswordFile: password}},
	})
	if got, err := c.Head(t.Context(), f.host+"/team/app:v1", puller.Credentials{}); err != nil || got != digest {
		t.Errorf("%s, %v", got, err)
	}
	wrong := credentials(t, `{"username":"ada","password":"wrong"}`)
	if _, err := c.Head(t.Context(), f.host+"/team/app:v1", wrong); puller.KindOf(err) != puller.ErrDenied {
		t.Errorf("with a caller's wrong password: %v", err)
	}
}

// What a repository shows without credentials is given to everybody, so it is not read with
// Towline's own.
func TestRepositoryWithoutCredentials(t *testing.T) {
	f := newFakeRegistry(t, challenge("Basic"), byPassword)
	f.refuses = serveBlob
	password := write(t, filepath.Join(t.TempDir(), "password"), secret, 0o600)
	c := newClientWith(t, registry.Options{
		AllowPrivate: []string{"127.0.0.1"}, Logins: []logins.Login{{Registry: f.host, Username: "ada", PasswordFile: password}},
	})
	image := f.host + "/team/app:v1"
	own, err := c.Credentials(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		credentials puller.Credentials
		kind        puller.ErrorKind
	}{{own, ""}, {puller.Credentials{}, puller.ErrDenied}} {
		repository, err := c.Repository(t.Context(), image, r.credentials)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(t, repository, 0, 1); puller.KindOf(err) != r.kind {
			t.Errorf("with the credentials %v: %v", r.credentials, err)
		}
	}
}

func TestDeniedWithoutCredentials(t *testing.T) {
	f := newFakeRegistry(t, challenge("Basic"), byPassword)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	write(t, filepath.Join(dir, "config.json"), `{"credHelpers": {"`+f.host+`": "x"}}`, 0o600)
	write(t, filepath.Join(dir, "bin", "docker-credential-x"), "#!/bin/sh\nexit 1\n", 0o700)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	c := newClientWith(t, registry.Options{Docker: true, AllowPrivate: []string{"127.0.0.1"}})
	_, err := c.Head(t.Context(), f.host+"/team/app:v1", puller.Credentials{})
	if puller.KindOf(err) != puller.ErrDenied || !strings.Contains(err.Error(), "docker-credential-x failed") || !strings.Contains(err.Error(), filepath.Join(dir, "config.json")) {
		t.Errorf("%v", err)
	}
	f.refuses = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	if _, err := c.Head(t.Context(), f.host+"/team/app:v1", login(t)); strings.Contains(err.Error(), "docker-credential") {
		t.Errorf("with a caller's own: %v", err)
	}
}
