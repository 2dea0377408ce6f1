package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// unread starts the program with a stderr that holds 4 KiB and that nobody reads.
func unread(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), syscall.F_SETPIPE_SZ, 4096); errno != 0 {
		t.Fatal(errno)
	}
	cmd = itself(t, args...)
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, r
}

// ends waits for the program, and returns how it ended.
func ends(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	ended := make(chan string, 1)
	go func() { cmd.Wait(); ended <- cmd.ProcessState.String() }()
	select {
	case how := <-ended:
		return how
	case <-time.After(20 * time.Second):
		cmd.Process.Kill()
		return "not in time, then " + <-ended
	}
}

// answers waits until a daemon answers on a socket.
func answers(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		// A socket is there a moment before it is listened on.
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			if got := get(t, path, "/healthz"); strings.HasPrefix(got, "200 ") {
				return
			}
		}
		<-tick.C
	}
	t.Fatal("the daemon does not answer")
}

func TestServeWithoutLogReader(t *testing.T) {
	host, engine := engineSocket(t)
	engine.Script("127.0.0.1:5000/app:v1", enginetest.Serve(enginetest.NewImage("127.0.0.1:5000/app:v1", 1)))
	for name, readers := range map[string]func(stderr *os.File){
		"a reader that has stopped": func(*os.File) {},
		"a reader that has gone":    func(stderr *os.File) { stderr.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t)
			path, file := filepath.Join(dir, "s"), filepath.Join(dir, "towline.yaml")
			yaml := fmt.Sprintf("listen: [unix://%s]\nstate_dir: %s/state\nengine: {host: %s}\nlog: {level: debug}\n", path, dir, host)
			if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd, stderr := unread(t, "serve", "--config", file)
			answers(t, path)
			readers(stderr)
			c := newClient(t, "unix://"+path)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for n := range 300 {
				job, err := c.Pull(ctx, client.PullRequest{Image: "127.0.0.1:5000/app:v1"})
				if err != nil {
					t.Fatalf("job %d: %v", n, err)
				}
				if job.State != puller.StateSucceeded {
					t.Fatalf("job %d: %+v", n, job)
				}
			}
			if got := get(t, path, "/metrics"); !strings.Contains(got, "towline_log_lines_dropped_total") {
				t.Error("the lines that were dropped are not counted")
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if how := ends(t, cmd); how != "exit status 0" {
				t.Errorf("it ended: %s", how)
			}
		})
	}
	t.Run("a start that fails", func(t *testing.T) {
		file := filepath.Join(directory(t), "towline.yaml")
		if err := os.WriteFile(file, []byte(strings.Repeat("x", 1<<15)+": 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd, _ := unread(t, "serve", "--config", file)
		if how := ends(t, cmd); how != "exit status 2" {
			t.Errorf("it ended: %s", how)
		}
	})
}
