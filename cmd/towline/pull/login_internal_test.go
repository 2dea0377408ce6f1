package pull

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/command"
)

func TestLogins(t *testing.T) {
	const a = "a.test/x:v1"
	config := func(t *testing.T, content string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("DOCKER_CONFIG", dir)
		t.Setenv("DOCKER_AUTH_CONFIG", "")
	}
	t.Run("plain HTTP to another host", func(t *testing.T) {
		config(t, `{"auths":{"a.test":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("ada:hunter2"))+`"}}}`)
		for host, clear := range map[string]bool{
			"http://192.0.2.1:7070": true, "http://localhost:7070": false, "http://127.0.0.1:7070": false, "http://[::1]:7070": false, "https://192.0.2.1": false, "unix:///s": false,
			"http://localhost.evil.test": true,
		} {
			var errs strings.Builder
			f := command.Flags{Host: host}
			found := logins(t.Context(), &f, []string{a}, &errs).Sent
			if (len(found) == 0) != clear || strings.Contains(errs.String(), "plain HTTP") != clear {
				t.Errorf("%s: %v, %s", host, found, &errs)
			}
		}
	})
	t.Run("a helper that does not exist", func(t *testing.T) {
		config(t, `{"credsStore":"nowhere"}`)
		var errs strings.Builder
		f := command.Flags{Host: "unix:///s"}
		if found := logins(t.Context(), &f, []string{a, "sha256:" + strings.Repeat("0", 64), "A:B:C"}, &errs).Sent; found != nil || !strings.Contains(errs.String(), "your login for a.test can't be read, and none is sent: docker-credential-nowhere does not exist") {
			t.Errorf("%v, %s", found, &errs)
		}
	})
}
