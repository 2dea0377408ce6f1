package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/configs"
)

func token(t *testing.T, file string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs(append([]string{"token", "new", "--file", file}, args...))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestTokensOverTCP(t *testing.T) {
	address, c := overTCP(t, func(*configs.Config) {})
	good, weak := token(t, c.Auth.TokenFile, "boss", "--scope", "admin"), token(t, c.Auth.TokenFile, "reader", "--scope", "read")
	startServe(t, c)
	host := "http://" + address
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"jobs"}, exit.CodeFailed, "TOWLINE_TOKEN"},
		{[]string{"jobs", "--token", "wrong"}, exit.CodeFailed, "not known"},
		{[]string{"pull", "alpine", "--token", weak}, exit.CodePermanent, `"pull"`},
		{[]string{"jobs", "--token", weak}, 0, ""},
		{[]string{"jobs", "--token", good}, 0, ""},
		{[]string{"jobs", "--token", good, "--host", "http://" + strings.Replace(address, "127.0.0.1", "localhost", 1)}, 0, ""},
		{[]string{"jobs", "--token", good, "--host", "https://" + address}, exit.CodeNoDaemon, "HTTP"},
		{[]string{"jobs", "--host", "http://boss:" + good + "@" + address}, exit.CodeUsage, "token"},
	} {
		code, out, err := run(t.Context(), append([]string{"--host", host}, row.args...)...)
		if code != row.code || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%q: exit code %d, %v\n%s", row.args, code, err, out)
		}
		if err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("the token is told: %v", err)
		}
	}
}

func TestTokenNew(t *testing.T) {
	code, out, err := run(t.Context(), "token", "new", "ci", "--expires", "24h")
	if code != 0 || !strings.Contains(out, "towline_") || !strings.Contains(out, "scopes: [read, pull]") || !strings.Contains(out, "expires: ") {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
	for _, args := range [][]string{{}, {"a", "b"}, {"a b"}, {"a", "--scope", "write"}, {"a", "--scope", ""}, {"a", "--expires", "0s"}, {"a", "--expires", "-1h"}} {
		if code, out, err := run(context.Background(), append([]string{"token", "new"}, args...)...); code != exit.CodeUsage || strings.Contains(out, "towline_") {
			t.Errorf("%q: %d, %v\n%s", args, code, err, out)
		}
	}
	if code, _, err := run(t.Context(), "token", "new", "ci", "--file", "/nowhere/tokens.yaml"); code != exit.CodeFailed || !strings.Contains(err.Error(), "/nowhere/tokens.yaml") {
		t.Errorf("%d, %v", code, err)
	}
}
