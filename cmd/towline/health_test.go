package main

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
)

func TestHealth(t *testing.T) {
	host, engine, _ := startDaemon(t)
	if code, out, err := run(t.Context(), "health", "--host", host); code != 0 || out != "ready\n" {
		t.Errorf("%d, %q, %v", code, out, err)
	}
	if code, out, err := run(t.Context(), "health", "-q", "--host", host); code != 0 || out != "" {
		t.Errorf("quiet: %d, %q, %v", code, out, err)
	}
	if code, out, err := run(t.Context(), "health", "--json", "--host", host); code != 0 || out != `{"ready":true}`+"\n" {
		t.Errorf("JSON: %d, %q, %v", code, out, err)
	}
	engine.Kill()
	if code, out, _ := run(t.Context(), "health", "--json", "--host", host); code != exit.CodeRetryable || !strings.HasPrefix(out, `{"ready":false,"error":{"kind":"engine_unavailable","message":"`) {
		t.Errorf("JSON without an engine: %d, %q", code, out)
	}
	if code, out, err := run(t.Context(), "health", "--host", host); code != exit.CodeRetryable || out != "" || err == nil {
		t.Errorf("without an engine: %d, %q, %v", code, out, err)
	}
	if code, _, err := run(t.Context(), "health", "--host", "unix:///nowhere.sock"); code != exit.CodeNoDaemon {
		t.Errorf("without a daemon: %d, %v", code, err)
	}
	// One that is there and says nothing.
	path := filepath.Join(directory(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var gone *client.Unreachable
	if code, _, err := run(t.Context(), "health", "--host", "unix://"+path); code != exit.CodeNoDaemon || !errors.As(err, &gone) {
		t.Errorf("with one that is silent: %d, %v", code, err)
	}
}
