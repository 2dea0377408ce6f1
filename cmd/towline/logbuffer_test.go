package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// numbered writes lines 0 to n-1, each of 100 bytes.
func numbered(out io.Writer, n int) {
	for i := range n {
		fmt.Fprintf(out, "%06d %s\n", i, strings.Repeat("x", 92))
	}
}

func TestLogBufferIsBounded(t *testing.T) {
	r, w := io.Pipe()
	b := newLogBuffer(w)
	logger := newLogger(configs.Log{Level: "info", Format: "json"}, b)
	b.reportWith(logger)
	const lines = 40_000 // 4 MB
	numbered(b, lines)
	dropped := int(b.dropped.Load())
	if most := 2*logBufferSize/100 + 1; dropped < lines-most || dropped > lines-logBufferSize/100 {
		t.Errorf("%d of %d lines were dropped", dropped, lines)
	}
	var got bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(&got, r) })
	b.Close()
	w.Close()
	reading.Wait()
	var want bytes.Buffer
	numbered(&want, lines)
	told, note, _ := strings.Cut(got.String(), "{")
	if want := want.String()[:100*(lines-dropped)]; told != want {
		t.Errorf("%d bytes were written, not the first %d lines", len(told), lines-dropped)
	}
	if !strings.Contains(note, fmt.Sprintf(`"msg":"%d lines of the log were dropped: `, dropped)) || !strings.HasSuffix(note, "}\n") {
		t.Errorf("it ends with %q", note)
	}
}

// faulty fails until it is well.
type faulty struct {
	mu    sync.Mutex
	well  bool
	text  bytes.Buffer
	tried chan struct{}
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.well {
		f.tried <- struct{}{}
		return 0, syscall.ENOSPC
	}
	return f.text.Write(p)
}

func TestLogBufferRecoversFromWriteErrors(t *testing.T) {
	f := &faulty{tried: make(chan struct{}, 10)}
	b := newLogBuffer(f)
	for range 3 {
		fmt.Fprintln(b, "lost")
		<-f.tried
	}
	f.mu.Lock()
	f.well = true
	f.mu.Unlock()
	fmt.Fprintln(b, "kept")
	b.Close()
	if got, want := f.text.String(), "kept\ntowline: 3 lines of the log were dropped: they could not be written in time\n"; got != want {
		t.Errorf("%q", got)
	}
	if n := b.dropped.Load(); n != 3 {
		t.Errorf("%v were counted", n)
	}
	fmt.Fprintln(b, "late")
	if n := b.dropped.Load(); n != 4 {
		t.Errorf("after the end, %v were counted", n)
	}
}

func TestLogBufferCloseDoesNotBlock(t *testing.T) {
	r, w := io.Pipe()
	b := newLogBuffer(w)
	fmt.Fprintln(b, "one")
	began := time.Now()
	b.Close()
	if d := time.Since(began); d < flushLimit || d > flushLimit+5*time.Second {
		t.Errorf("it took %s", d)
	}
	r.Close()
	<-b.done
}

func TestLogBufferCapturesStderr(t *testing.T) {
	var got bytes.Buffer
	b := newLogBuffer(&got)
	was := os.Stderr
	if err := b.captureStderr(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "a library\x1b[2J")
	helper := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo a helper >&2")
	helper.Stderr = os.Stderr
	if err := helper.Run(); err != nil {
		t.Error(err)
	}
	b.Close()
	if got.String() != "a library�[2J\na helper\n" || os.Stderr != was {
		t.Errorf("%q", got.String())
	}
}

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
				job, err := c.Pull(ctx, puller.PullRequest{Image: "127.0.0.1:5000/app:v1"})
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
