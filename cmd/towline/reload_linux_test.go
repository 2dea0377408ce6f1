package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/cmd/towline/exit"
)

// eventually returns once a text has what is wanted.
func eventually(t *testing.T, text func() string, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(text(), want); {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come:\n%s", want, text())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// catchHangUps lets children get SIGHUP. A test that was started with nohup ignores it,
// and so would they. What a process catches, its children do not ignore.
func catchHangUps(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
}

func TestServeReload(t *testing.T) {
	catchHangUps(t)
	dir := directory(t)
	path, file := filepath.Join(dir, "s"), filepath.Join(dir, "towline.yaml")
	write := func(more string) {
		t.Helper()
		yaml := fmt.Sprintf("listen: [unix://%s]\nstate_dir: %s/state\nengine: {host: unix:///nowhere/docker.sock}\n%s", path, dir, more)
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cmd := itself(t, "serve", "--config", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal
	var log lines
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers(t, path)
	eventually(t, log.String, "the engine does not answer; jobs wait for it")
	checkWords(t, log.String(), "there is no socket at /nowhere/docker.sock. Start what listens there: systemctl start docker", `msg="the store is open" state_dir=`+dir)
	status := func() string { return get(t, path, "/images/docker.io/library/alpine:3/json")[:4] }
	if got := status(); got != "503 " {
		t.Errorf("before: %s", got)
	}
	write("rules: {pull: {deny: [docker.io/**]}}\npull: {concurrency: 3}\nlog: {level: warn}\n")
	cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, log.String, `changed="rules.pull.deny, log.level" not_applied=pull.concurrency`)
	if got := status(); got != "403 " {
		t.Errorf("after a reload: %s", got)
	}
	write("rules: {pull: {deny: [alpine]}}\n")
	cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, log.String, "the configuration was not reloaded; the one before still counts")
	write("rules: {pull: {deny: []}}\nlog: {level: loud}\n")
	cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, log.String, file+", line 5: log.level: ")
	if got := status(); got != "403 " {
		t.Errorf("after a reload that failed: %s", got)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v\n%s", err, &log)
	}
}

// A daemon that was started by hand ends when its terminal is closed.
func TestServeTerminalCloses(t *testing.T) {
	dir := directory(t)
	path, file := filepath.Join(dir, "s"), filepath.Join(dir, "towline.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listen: [unix://%s]\nstate_dir: %s/state\nengine: {host: unix:///nowhere/docker.sock}\n", path, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	screen, terminal := openTerminal(t)
	catchHangUps(t)
	cmd := itself(t, "serve", "--config", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	answers(t, path)
	screen.Close()
	late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("its socket is left")
	}
}

func TestServeCheck(t *testing.T) {
	host, _ := engineSocket(t)
	dir := directory(t)
	file := filepath.Join(dir, "towline.yaml")
	for yaml, want := range map[string]struct {
		code int
		says string
	}{
		"engine: {host: " + host + "}":                                                          {0, "the configuration is valid\nthe engine at " + host + " answers: "},
		"engine: {host: unix:///nowhere/docker.sock}":                                           {exit.CodeRetryable, "there is no socket at /nowhere/docker.sock. Start what listens there: systemctl start docker"},
		"rules: {pull: {deny: [alpine]}}":                                                       {exit.CodeUsage, "configuration " + file + `, line 1: rules.pull.deny: "alpine" does not begin with a registry`},
		"registries: {credentials: [{registry: r.test, username: a, password_file: /nowhere}]}": {exit.CodeUsage, file + ", line 1: registries.credentials[0].password_file: "},
		"auth: {token_file: /nowhere}":                                                          {exit.CodeUsage, file + ", line 1: auth.token_file: "},
		"state_dir: /dev/null":                                                                  {exit.CodeUsage, file + ", line 1: state_dir: /dev/null is no directory"},
		"engine: {host: ftp://x}":                                                               {exit.CodeUsage, file + ", line 1: engine.host: \"ftp://x\": unknown scheme; write it as unix:///var/run/docker.sock"},
		"socket_group: 99999999999":                                                             {exit.CodeUsage, file + ", line 1: socket_group: "},
		"socket_group: nosuch":                                                                  {exit.CodeUsage, file + ", line 1: socket_group: "},
		"keep: {learn_schedule: soon}":                                                          {exit.CodeUsage, file + ", line 1: keep.learn_schedule: "},
		"fleet: {creds: /nowhere}":                                                              {exit.CodeUsage, file + ", line 1: fleet.creds: /nowhere: "},
		"pull: {retries: 21}":                                                                   {exit.CodeUsage, file + ", line 1: pull.retries: 21 is not between 0 and 20"},
	} {
		if err := os.WriteFile(file, []byte(yaml+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, err := run(t.Context(), "serve", "--check", "--config", file)
		if code != want.code || !strings.Contains(out+exit.Message(err), want.says) {
			t.Errorf("%s: %d, %s%v", yaml, code, out, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
		t.Error("a check has made the state")
	}
}
