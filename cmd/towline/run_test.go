package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/enginetest/testprogram"
)

// have gives the engine an image with a program.
func have(engine *enginetest.Engine, name string, p enginetest.Program) {
	i := enginetest.NewImage(name, 1)
	engine.Script(name, enginetest.Serve(i))
	engine.Program(i.ID, p)
}

func TestRunOutputAndExitCode(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	all := string(testprogram.AllBytes())
	for _, row := range []struct {
		steps     string
		code      int
		out, errs string
	}{
		{"out=a err=b exit=0", 0, "a", "b"},
		{"out=a err=b exit=1", 1, "a", "b"},
		{"exit=137", 137, "", ""},
		{"exit=130", 130, "", ""},
		{"bytes", 0, all, all + all},
		{"out=--json -q exit=3", 64, "--json", "testprogram: \"-q\"?\n"},
	} {
		t.Run(row.steps, func(t *testing.T) {
			args := append([]string{"run", "-q", "--host", host, "actor"}, strings.Fields(row.steps)...)
			code, out, errs, err := runApart(t.Context(), args...)
			if code != row.code || out != row.out || errs != row.errs {
				t.Errorf("%d, %v, %q, %q", code, err, out, errs)
			}
		})
	}
	if left := engine.Containers(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

func TestRunFlags(t *testing.T) {
	host, engine, _ := startDaemon(t)
	t.Setenv("TOWLINE_TEST_HERE", "of here")
	var asked enginetest.ContainerRequest
	have(engine, "one", func(p *enginetest.Process) int {
		asked = p.Requested
		return 0
	})
	code, _, errs, err := runApart(t.Context(), "run", "--host", host, "-e", "A=1", "-e", "B=x=y", "--env", "TOWLINE_TEST_HERE", "-e", "TOWLINE_TEST_NOWHERE", "-e", "C=",
		"-w", "/srv", "-u", "7:8", "-t", "--network", "none", "-m", "64m", "--cpus", "1.5", "--pids", "50", "--timeout", "1m",
		"--entrypoint", "/bin/sh", "--entrypoint", "-c", "--platform", "linux/amd64", "--policy", "always", "one", "-t", "echo", "--", "")
	if code != 0 {
		t.Fatal(code, err, errs)
	}
	slices.Sort(asked.Env)
	h := asked.HostConfig
	got := map[string]any{
		"cmd": asked.Cmd, "entrypoint": asked.Entrypoint, "env": asked.Env, "workdir": asked.WorkingDir, "user": asked.User, "tty": asked.Tty,
		"network": string(h.NetworkMode), "memory": h.Memory, "cpus": h.NanoCpus, "pids": *h.PidsLimit, "platform": asked.Platform,
	}
	want := map[string]any{
		"cmd": []string{"-t", "echo", "--", ""}, "entrypoint": []string{"/bin/sh", "-c"}, "env": []string{"A=1", "B=x=y", "C=", "TOWLINE_TEST_HERE=of here"},
		"workdir": "/srv", "user": "7:8", "tty": true, "network": "none", "memory": int64(64 << 20), "cpus": int64(15e8), "pids": int64(50), "platform": "linux/amd64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the container (-want +got):\n%s", diff)
	}
}

func TestRunExitCodeOfAnError(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "one", enginetest.Print("", "", 0))
	for args, want := range map[string]int{
		"":                             exit.CodeRunFailed,
		"-e =x one":                    exit.CodeRunFailed,
		"-m lots one":                  exit.CodeRunFailed,
		"--nope one":                   exit.CodeRunFailed,
		"A:B:C":                        exit.CodeRunFailed,
		"--network host one":           exit.CodeRunFailed,
		"-w here one":                  exit.CodeRunFailed,
		"registry.test/nope:v1":        exit.CodeRunFailed,
		"--policy never other":         exit.CodeRunFailed,
		"--host unix:///nowhere/s one": exit.CodeRunFailed,
	} {
		t.Run("args "+args, func(t *testing.T) {
			code, _, errs, err := runApart(t.Context(), append([]string{"run", "--host", host}, strings.Fields(args)...)...)
			if code != want || err == nil {
				t.Errorf("%d, want %d: %v\n%s", code, want, err, errs)
			}
			if image := args[strings.LastIndex(args, " ")+1:]; image != "" && !strings.HasPrefix(args, "-e =") && !strings.HasPrefix(args, "-m ") && !strings.HasPrefix(args, "--nope") && !strings.Contains(err.Error(), image) {
				t.Errorf("%v does not name %s", err, image)
			}
		})
	}
}

func TestRunShowsItsPullOnStderr(t *testing.T) {
	for _, row := range []struct {
		flags, pulled, present string
	}{
		{"", "docker.io/library/one:latest: pulling\n", ""},
		{"-q", "", ""},
	} {
		host, engine, _ := startDaemon(t)
		have(engine, "one", enginetest.Print("hello\n", "", 0))
		for _, want := range []string{row.pulled, row.present} {
			args := append([]string{"run", "--host", host}, strings.Fields(row.flags)...)
			code, out, errs, err := runApart(t.Context(), append(args, "one")...)
			if code != 0 || out != "hello\n" || !strings.HasPrefix(errs, want) || (want == "") != (errs == "") {
				t.Errorf("%q: %d, %v, %q, %q", row.flags, code, err, out, errs)
			}
			checkSafe(t, errs)
		}
	}
}

func TestRunJSON(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	code, out, errs, _ := runApart(t.Context(), "run", "--json", "--host", host, "actor", "out=é", "err=x", "exit=5")
	if code != 5 || errs != "" {
		t.Errorf("%d, %q", code, errs)
	}
	var last puller.Event
	printed := make(map[puller.Output]string)
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		last = puller.Event{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatal(err)
		}
		if last.Type == "log" {
			printed[last.Stream] += last.Text.Text
		}
	}
	if last.Result == nil || *last.Result.Result.ExitCode != 5 || printed[puller.Stdout] != "é" || printed[puller.Stderr] != "x" {
		t.Errorf("%+v, %q", last, printed)
	}
}

func TestRunOutOfMemory(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	code, _, errs, _ := runApart(t.Context(), "run", "-q", "--host", host, "-m", "64m", "actor", "alloc=100000000")
	if code != 137 || !strings.Contains(errs, "the program ran out of memory") {
		t.Errorf("%d, %q", code, errs)
	}
}

// watcher calls seen once, when a text was written to it.
type watcher struct {
	bytes.Buffer
	text string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	defer func() {
		if w.seen != nil && strings.Contains(w.String(), w.text) {
			w.seen()
			w.seen = nil
		}
	}()
	return w.Buffer.Write(p)
}

func TestRunInterrupted(t *testing.T) {
	host, engine, p := startDaemon(t)
	have(engine, "one", func(p *enginetest.Process) int {
		io.WriteString(p.Stdout(), "up\n")
		<-p.Killed()
		io.WriteString(p.Stdout(), "bye\n")
		return 0
	})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &watcher{text: "up", seen: interrupt}
	var errs bytes.Buffer
	code, err := runTo(ctx, out, &errs, "run", "--host", host, "one")
	if code != exit.CodeInterrupted || !errors.Is(err, context.Canceled) || !strings.HasPrefix(out.String(), "up\n") {
		t.Errorf("%d, %v, %q", code, err, out.String())
	}
	checkWords(t, errs.String(), "interrupted")
	checkCanceled(t, p, 1)
	if left := engine.Containers(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

// The exit code counts where the program ended before it could be canceled.
func TestRunInterruptedTooLate(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	asked := make(chan struct{})
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			io.WriteString(w, `{"id":"01J","kind":"run","image":"one"}`)
		case http.MethodDelete:
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"kind":"conflict","detail":"job 01J has already ended"}`)
			close(asked)
		default:
			interrupt()
			<-asked
			io.WriteString(w, `{"seq":1,"type":"result","job":"01J","result":{"id":"01J","kind":"run","state":"succeeded","result":{"exit_code":7}}}`+"\n")
		}
	}))
	defer daemon.Close()
	if code, err := runTo(ctx, io.Discard, io.Discard, "run", "--host", daemon.URL, "one"); code != 7 {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// full is an output with room for so many bytes.
type full struct {
	room int
	err  error
}

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, f.err
	}
	f.room -= len(p)
	return len(p), nil
}

func TestRunWithFailingOutput(t *testing.T) {
	for err, want := range map[error]int{syscall.EPIPE: exit.CodePipe, syscall.ENOSPC: exit.CodeFailed} {
		for _, mode := range []string{"-q", "--json"} {
			host, engine, p := startDaemon(t)
			have(engine, "yes", func(p *enginetest.Process) int {
				for {
					if _, err := io.WriteString(p.Stdout(), "yes\n"); err != nil || !p.Wait(time.Millisecond) {
						return 0
					}
				}
			})
			room := 20
			if mode == "--json" {
				room = 2000
			}
			out := &full{room, &os.PathError{Op: "write", Path: "stdout", Err: err}}
			code, got := runTo(t.Context(), out, io.Discard, "run", mode, "--host", host, "yes")
			if code != want {
				t.Errorf("%v, %s: %d, %v", err, mode, code, got)
			}
			checkCanceled(t, p, 1)
		}
	}
}

func TestRunInAPipeline(t *testing.T) {
	host, engine, p := startDaemon(t)
	have(engine, "yes", func(p *enginetest.Process) int {
		for p.Wait(time.Millisecond) {
			io.WriteString(p.Stdout(), "yes\n")
		}
		return 0
	})
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := itself(t, "run", "--host", host, "yes")
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	io.ReadFull(read, make([]byte, 8))
	read.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exit.CodePipe {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	checkCanceled(t, p, 1)
}
