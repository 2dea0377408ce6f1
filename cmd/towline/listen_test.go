package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/configs"
)

// freePort returns one that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// overTCP is a daemon that also listens on TCP.
func overTCP(t *testing.T, change func(c *configs.Config)) (address string, c configs.Config) {
	t.Helper()
	c, _ = config(t)
	address = freePort(t)
	c.Listen = append(c.Listen, "tcp://"+address)
	c.Auth.TokenFile = filepath.Join(directory(t), "tokens.yaml")
	change(&c)
	return address, c
}

func TestListenNeedsAuth(t *testing.T) {
	c, path := config(t)
	c.Listen = append(c.Listen, "tcp://127.0.0.1:7077")
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "auth.token_file") || !strings.Contains(err.Error(), "auth.tls.ca") {
		t.Errorf("without tokens and certificates: %v", err)
	}
	// As the program says it.
	file := filepath.Join(directory(t), "towline.yaml")
	if err := os.WriteFile(file, []byte("listen: [tcp://0.0.0.0:7077]\nstate_dir: /nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, err := run(t.Context(), "serve", "--config", file); code != exit.CodeUsage || !strings.Contains(err.Error(), "auth.token_file") {
		t.Errorf("exit code %d: %v", code, err)
	}
	// And with files that are no good.
	for _, auth := range []configs.Auth{
		{TokenFile: "/nowhere/tokens.yaml"},
		{TLS: configs.TLS{Cert: "/nowhere/cert.pem", Key: "/nowhere/key.pem", CA: "/nowhere/ca.pem"}},
	} {
		c.Auth, c.Listen = auth, []string{"unix://" + path, "tcp://" + freePort(t)}
		if err := serveLogged(t.Context(), c); err == nil || !strings.Contains(err.Error(), "/nowhere/") {
			t.Errorf("%+v: %v", auth, err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a socket is left behind: %v", err)
	}
}

// lines takes a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
