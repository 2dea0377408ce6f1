package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/enginetest/testprogram"
	"github.com/towline/towline/stream"
)

// runApart is the program with the arguments, its outputs apart.
func runApart(ctx context.Context, out io.Writer, args ...string) (code int, errs string, err error) {
	root := newRoot()
	var b bytes.Buffer
	root.SetOut(out)
	root.SetErr(&b)
	root.SetArgs(args)
	err = root.ExecuteContext(ctx)
	return exitCode(err), b.String(), err
}

// have gives the engine an image whose containers run the program.
func have(engine *enginetest.Engine, name string, p enginetest.Program) {
	i := enginetest.NewImage(name, 1)
	engine.Script(name, enginetest.Serve(i))
	engine.Program(i.ID, p)
}

func TestARunPassesOnWhatItsProgramPrintsAndExitsAsItDoes(t *testing.T) {
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
		var out bytes.Buffer
		args := append([]string{"run", "-q", "--host", host, "actor"}, strings.Fields(row.steps)...)
		code, errs, err := runApart(t.Context(), &out, args...)
		if code != row.code || out.String() != row.out || errs != row.errs {
			t.Errorf("%s: %d, %v, %q, %q", row.steps, code, err, out.String(), errs)
		}
	}
	if left := engine.Containers(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

func TestWhatIsAskedForReachesTheContainer(t *testing.T) {
	host, engine, _ := startDaemon(t)
	t.Setenv("TOWLINE_TEST_HERE", "of here")
	var asked enginetest.ContainerRequest
	have(engine, "one", func(p *enginetest.Process) int {
		asked = p.Requested
		return 0
	})
	code, errs, err := runApart(t.Context(), io.Discard, "run", "--host", host, "-e", "A=1", "-e", "B=x=y", "--env", "TOWLINE_TEST_HERE", "-e", "TOWLINE_TEST_NOWHERE", "-e", "C=",
		"-w", "/srv", "-u", "7:8", "-t", "--network", "none", "-m", "64m", "--cpus", "1.5", "--pids", "50", "--timeout", "1m",
		"--entrypoint", "/bin/sh", "--entrypoint", "-c", "--platform", "linux/amd64", "--policy", "always", "one", "-t", "echo", "--", "")
	if code != 0 {
		t.Fatal(code, err, errs)
	}
	env := make(map[string]bool)
	for _, e := range asked.Env {
		env[e] = true
	}
	if want := map[string]bool{"A=1": true, "B=x=y": true, "C=": true, "TOWLINE_TEST_HERE=of here": true}; !maps.Equal(env, want) {
		t.Errorf("env is %q", asked.Env)
	}
	h := asked.HostConfig
	if asked.WorkingDir != "/srv" || asked.User != "7:8" || !asked.Tty || h.NetworkMode != "none" || h.Memory != 64<<20 || h.NanoCpus != 15e8 || *h.PidsLimit != 50 ||
		strings.Join(asked.Entrypoint, " ") != "/bin/sh -c" || strings.Join(asked.Cmd, "|") != "-t|echo|--|" || asked.Platform != "linux/amd64" {
		t.Errorf("asked for is %+v", asked)
	}
}

func TestARunThatNeverRanExitsAsItsErrorIs(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "one", enginetest.Print("", "", 0))
	for args, want := range map[string]int{
		"":                             exitUsage,
		"-e =x one":                    exitUsage,
		"-m lots one":                  exitUsage,
		"--nope one":                   exitUsage,
		"A:B:C":                        exitPermanent,
		"--network host one":           exitPermanent,
		"-w here one":                  exitPermanent,
		"registry.test/nope:v1":        exitPermanent,
		"--policy never other":         exitPermanent,
		"--host unix:///nowhere/s one": exitNoDaemon,
	} {
		code, errs, err := runApart(t.Context(), io.Discard, append([]string{"run", "--host", host}, strings.Fields(args)...)...)
		if code != want || err == nil {
			t.Errorf("%q: %d, want %d: %v\n%s", args, code, want, err, errs)
		}
	}
}

func TestARunTellsOfItsPullOnTheStandardErrorOnly(t *testing.T) {
	for _, row := range []struct {
		flags, pulled, present string
	}{
		{"", "docker.io/library/one:latest: pulling\n", ""},
		{"-q", "", ""},
	} {
		host, engine, _ := startDaemon(t)
		have(engine, "one", enginetest.Print("hello\n", "", 0))
		for _, want := range []string{row.pulled, row.present} {
			var out bytes.Buffer
			args := append([]string{"run", "--host", host}, strings.Fields(row.flags)...)
			code, errs, err := runApart(t.Context(), &out, append(args, "one")...)
			if code != 0 || out.String() != "hello\n" || !strings.HasPrefix(errs, want) || (want == "") != (errs == "") {
				t.Errorf("%q: %d, %v, %q, %q", row.flags, code, err, out.String(), errs)
			}
			if strings.ContainsFunc(errs, func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("a control character in %q", errs)
			}
		}
	}
}

func TestARunPrintsItsEventsAsJSONLines(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	var out bytes.Buffer
	code, errs, _ := runApart(t.Context(), &out, "run", "--json", "--host", host, "actor", "out=é", "err=x", "exit=5")
	if code != 5 || errs != "" {
		t.Errorf("%d, %q", code, errs)
	}
	var last puller.Event
	printed := make(map[puller.Output]string)
	for lines := bufio.NewScanner(&out); lines.Scan(); {
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

func TestARunThatWantsTooMuchMemorySaysSo(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	code, errs, _ := runApart(t.Context(), io.Discard, "run", "-q", "--host", host, "-m", "64m", "actor", "alloc=100000000")
	if code != 137 || !strings.Contains(errs, "for want of memory") {
		t.Errorf("%d, %q", code, errs)
	}
}

func TestARunWhoseOutputIsNotAllKeptSaysSo(t *testing.T) {
	c := &console{out: io.Discard, errs: io.Discard, quiet: true, progress: silent{}}
	var errs bytes.Buffer
	c.errs = &errs
	c.show(&puller.Job{}, puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseRunning, Seq: 1})
	c.show(&puller.Job{}, puller.Event{Type: "notice", Message: "of no interest", Seq: 2})
	c.show(&puller.Job{}, puller.Event{Type: "notice", Message: "some of the output is not kept"})
	if errs.String() != "towline: some of the output is not kept\n" {
		t.Errorf("%q", errs.String())
	}
}

func TestBarsAreGoneWhenTheProgramPrints(t *testing.T) {
	var screen bytes.Buffer
	c := &console{out: &screen, errs: &screen, progress: &bars{out: &screen, size: func() (int, int, error) { return 80, 24, nil }}}
	j := &puller.Job{Image: "one"}
	state := func(p puller.Phase) {
		c.show(j, puller.Event{Type: "state", State: puller.StateActive, Phase: p, Attempt: 1, Seq: 1})
	}
	state(puller.PhaseResolving)
	if screen.Len() > 0 {
		t.Errorf("what needs no pull shows %q", screen.String())
	}
	for _, p := range []puller.Phase{puller.PhasePulling, puller.PhaseVerifying, puller.PhaseCreating, puller.PhaseRunning} {
		state(p)
	}
	c.show(j, puller.Event{Type: "log", Stream: puller.Stdout, Text: &stream.Text{Text: "hello"}, Seq: 2})
	state(puller.PhaseRemoving)
	c.end()
	if s := screen.String(); !strings.Contains(s, "one: pulling") || !strings.HasSuffix(s, "\x1b[1A\r\x1b[Jhello") {
		t.Errorf("the screen gets %q", s)
	}
}

// watcher calls back once a text was written to it.
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

func TestAnInterruptEndsTheProgramAndPassesOnItsLastWords(t *testing.T) {
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
	code, errs, err := runApart(ctx, out, "run", "--host", host, "one")
	if code != exitInterrupted || !errors.Is(err, context.Canceled) || !strings.HasPrefix(out.String(), "up\n") || !strings.Contains(errs, "interrupted") {
		t.Errorf("%d, %v, %q, %q", code, err, out.String(), errs)
	}
	checkCanceled(t, p, 1)
	if left := engine.Containers(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

// full takes so many bytes, and no more.
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

func TestARunWhoseOutputNobodyTakesIsCanceled(t *testing.T) {
	for err, want := range map[error]int{syscall.EPIPE: exitPipe, syscall.ENOSPC: exitFailed} {
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
			code, _, got := runApart(t.Context(), &full{room, &os.PathError{Op: "write", Path: "stdout", Err: err}}, "run", mode, "--host", host, "yes")
			if code != want {
				t.Errorf("%v, %s: %d, %v", err, mode, code, got)
			}
			checkCanceled(t, p, 1)
		}
	}
}

// The program as others start it.
func TestARunInAPipelineEndsWithIt(t *testing.T) {
	host, engine, p := startDaemon(t)
	have(engine, "yes", func(p *enginetest.Process) int {
		for p.Wait(time.Millisecond) {
			io.WriteString(p.Stdout(), "yes\n")
		}
		return 0
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), asTowline+"=run\x1f--host\x1f"+host+"\x1fyes")
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	io.ReadFull(read, make([]byte, 8))
	read.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitPipe {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	checkCanceled(t, p, 1)
}
