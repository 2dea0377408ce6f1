package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// activate starts the program as systemd does: with sockets, and told so.
func activate(t *testing.T, yaml string, listeners ...net.Listener) (cmd *exec.Cmd, log *lines, ended <-chan error) {
	t.Helper()
	file := filepath.Join(directory(t), "towline.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), "/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0"`, self)
	cmd.Env = append(os.Environ(), asTowline+"="+strings.Join([]string{"serve", "--config", file}, "\x1f"), fmt.Sprintf("LISTEN_FDS=%d", len(listeners)), "LISTEN_FDNAMES=")
	for _, l := range listeners {
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log = &lines{}
	done := make(chan error, 1)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			fmt.Fprintln(log, s.Text())
		}
		done <- cmd.Wait()
	}()
	return cmd, log, done
}

func TestSocketActivation(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "passed")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	tokens := filepath.Join(dir, "tokens.yaml")
	boss := token(t, tokens, "boss", "--scope", "admin")
	base := fmt.Sprintf("state_dir: %s/state\nengine: {host: unix:///nowhere/docker.sock}\n", dir)

	cmd, log, ended := activate(t, base+"listen: [fd://]\nauth: {token_file: "+tokens+"}\n", unix, tcp)
	if got := get(t, path, "/v1/jobs"); !strings.HasPrefix(got, "200 ") { // it waits in the socket's queue until the daemon is there
		t.Errorf("the unix socket: %s\n%s", got, log)
	}
	for header, want := range map[string]int{"": http.StatusUnauthorized, "Bearer " + boss: http.StatusOK} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+tcp.Addr().String()+"/v1/jobs", nil)
		r.Header.Set("Authorization", header)
		r.Close = true
		resp, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
		if err != nil {
			t.Fatal(err, log)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("the TCP socket with %.6q: %s", header, resp.Status)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v\n%s", err, log)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("systemd's socket is gone: %v", err)
	}
	if strings.Contains(log.String(), boss) {
		t.Error("the token is in the log")
	}

	for yaml, want := range map[string]string{
		"listen: [fd://]\n":                       "auth.token_file",       // for the TCP socket
		"listen: [unix://" + dir + "/other.s]\n":  "write fd:// in listen", // it would wait for ever
		"listen: [fd://]\nauth: {token_file: /x}": "/x",                    // before it listens
	} {
		_, log, ended := activate(t, base+yaml, tcp)
		if err := <-ended; err == nil || !strings.Contains(log.String(), want) {
			t.Errorf("%q: %v, %s", yaml, err, log)
		}
	}
	_, log, ended = activate(t, base+"listen: [fd://]\n")
	if err := <-ended; err == nil || !strings.Contains(log.String(), "systemd has passed no socket") {
		t.Errorf("no socket: %v, %s", err, log)
	}
}
