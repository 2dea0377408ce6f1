package integration_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest/testprogram"
)

var instant = flag.Int("instant", 8, "how many programs exit at once")

var buildActor = sync.OnceValues(func() (string, error) {
	path := filepath.Join(site.dir, "testprogram")
	return path, lab.BuildStatic(context.Background(), "lab/testdata/testprogram", path)
})

// testProgramRef pushes the test program's image under a name of its own.
func testProgramRef(t *testing.T, repo string) string {
	t.Helper()
	lab.Need(t, site.err)
	program, err := buildActor()
	if err != nil {
		t.Fatal(err)
	}
	image, err := lab.BinaryImage(program, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.registry.Push(t.Context(), repo, "v1", image); err != nil {
		t.Fatal(err)
	}
	ref := site.registry.Ref(repo, "v1")
	t.Cleanup(func() { remove(t, ref) })
	return ref
}

// checkNoContainers fails where an engine has any.
func checkNoContainers(t *testing.T, engine *lab.Engine) {
	t.Helper()
	resp, err := engine.Do(t.Context(), http.MethodGet, "/containers/json?all=1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var left []struct{ Status, Command string }
	if err := json.NewDecoder(resp.Body).Decode(&left); err != nil || len(left) > 0 {
		t.Errorf("containers are left: %+v, %v", left, err)
	}
}

// program is the command line that runs one, while it does.
type program struct {
	*exec.Cmd
	out, errs *text
}

// startRun starts towline run of the test program, which then has no network: the lab's
// engine has no bridge.
func startRun(t *testing.T, host, ref string, args ...string) *program {
	t.Helper()
	p := &program{exec.CommandContext(t.Context(), site.bin, append([]string{"--host", host, "run", "-q", "--network", "none", ref}, args...)...), newText(), newText()}
	p.Stdout, p.Stderr = p.out, p.errs
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *program) code() int {
	p.Wait()
	return p.ProcessState.ExitCode()
}

// text is what was written, to be waited for.
type text struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func newText() *text { return &text{changed: make(chan struct{}, 1)} }

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case x.changed <- struct{}{}:
	default:
	}
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

func (x *text) await(t *testing.T, part string) {
	t.Helper()
	limit := time.After(90 * time.Second)
	for !strings.Contains(x.String(), part) {
		select {
		case <-x.changed:
		case <-limit:
			t.Fatalf("%q does not come: %q", part, x.String())
		}
	}
}

func TestRunOutputAndExit(t *testing.T) {
	ref := testProgramRef(t, "run")
	d, _ := daemon(t)
	var lines [2]strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines[0], "stdout %d\n", i)
		fmt.Fprintf(&lines[1], "stderr %d\n", i)
	}
	all := string(testprogram.AllBytes())
	for _, c := range []struct {
		steps     string
		code      int
		out, errs string
	}{
		{"out=first", 0, "first", ""},
		{"out=a err=b exit=1", 1, "a", "b"},
		{"exit=137", 137, "", ""},
		{"lines=2000 exit=2", 2, lines[0].String(), lines[1].String()},
		{"bytes", 0, all, all + all},
	} {
		p := startRun(t, d.Host, ref, strings.Fields(c.steps)...)
		if code := p.code(); code != c.code || p.out.String() != c.out || p.errs.String() != c.errs {
			t.Errorf("%s: exit code %d, %q, %q", c.steps, code, p.out, p.errs)
		}
	}
	checkNoContainers(t, site.engine)
}

func TestRunTerminalAndLimits(t *testing.T) {
	ref := testProgramRef(t, "runlimits")
	d, _ := daemon(t)
	out, errs, code := towline(t, d.Host, "run", "-q", "--network", "none", "-t", ref, "out=a\n", "err=b\n")
	if code != 0 || out != "a\r\nb\r\n" || errs != "" {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	for range 4 { // an engine on a busy host may learn of the exit alone
		out, errs, code = towline(t, d.Host, "run", "-q", "--network", "none", "-m", "32m", ref, "alloc=200000000")
		if code != 137 || errs != "" {
			break
		}
	}
	if code != 137 || !strings.Contains(errs, "the program ran out of memory") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	out, errs, code = towline(t, d.Host, "run", "-q", "--network", "none", "-e", "A=b c", "-u", "7:8", "-w", "/tmp/x", ref, "self")
	var self testprogram.Self
	if err := json.Unmarshal([]byte(out), &self); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v, %s%s", code, err, out, errs)
	}
	if self.CapEff != "0000000000000000" || self.NoNewPrivs != "1" || self.UID != 7 || self.GID != 8 || self.Dir != "/tmp/x" || !strings.Contains(strings.Join(self.Env, "\n"), "A=b c") {
		t.Errorf("it is %+v", self)
	}
	checkNoContainers(t, site.engine)
}

// A program without a terminal does nothing to the one that its output comes to; one
// that was given a terminal has it.
func TestRunTerminalSafe(t *testing.T) {
	ref := testProgramRef(t, "runscreen")
	d, _ := daemon(t)
	for _, c := range []struct{ flag, want string }{
		{"--tty=false", "a\tbé�\r\n"}, // the terminal's own CR
		{"--tty=true", "a\tb\x1b[2Jé\u202e\r\r\n"},
	} {
		cmd := exec.CommandContext(t.Context(), site.bin, "--host", d.Host, "run", "-q", "--network", "none", c.flag, ref, "out=a\tb\x1b[2Jé\u202e", "out=\n")
		out, err := lab.OnTerminal(cmd, nil)
		if err != nil || string(out) != c.want {
			t.Errorf("%s: %v, %q", c.flag, err, out)
		}
	}
	checkNoContainers(t, site.engine)
}

// ended follows a run to its end.
func ended(t *testing.T, c *client.Client, id string) (j puller.Job, printed map[puller.Output]string) {
	t.Helper()
	printed = make(map[puller.Output]string)
	for e, err := range c.Events(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Text != nil {
			b, err := e.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			printed[e.Stream] += string(b)
		}
		if e.Result != nil {
			j = *e.Result
		}
	}
	return j, printed
}

func TestRunProgramsThatExitAtOnce(t *testing.T) {
	ref := testProgramRef(t, "runinstant")
	_, c := daemon(t)
	for i := range *instant {
		word := fmt.Sprintf("word %d", i)
		job, err := c.Run(t.Context(), client.RunRequest{Image: ref, Network: "none", Cmd: []string{"out=" + word, "err=" + word, fmt.Sprint("exit=", i%3)}})
		if err != nil {
			t.Fatal(err)
		}
		j, printed := ended(t, c, job.ID)
		if j.Result == nil || *j.Result.ExitCode != i%3 || printed[puller.Stdout] != word || printed[puller.Stderr] != word {
			t.Errorf("%d: %+v, %q", i, j, printed)
		}
	}
	checkNoContainers(t, site.engine)
}

var spoken = flag.Int("spoken", 40, "how many MiB a run prints while a reader has stopped")

func TestRunStoppedReader(t *testing.T) {
	size := *spoken << 20
	ref := testProgramRef(t, "runflood")
	d, c := daemonWith(t, lab.TowlineOptions{EngineHost: site.engine.Host, Config: "runs: {output: 1073741824}\n"})
	sum := sha256.New()
	cmd := exec.CommandContext(t.Context(), site.bin, "--host", d.Host, "run", "-q", "--network", "none", ref, "sleep=1s", fmt.Sprint("random=", size), "exit=4")
	var errs bytes.Buffer
	counted := &counter{w: sum}
	cmd.Stdout, cmd.Stderr = counted, &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	if err := lab.Poll(t.Context(), 20*time.Millisecond, func(ctx context.Context) error {
		jobs, _, err := c.Jobs(ctx, puller.Filter{Image: ref})
		if err != nil || len(jobs) == 0 {
			return fmt.Errorf("no job yet, %v", err)
		}
		id = jobs[0].ID
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	stopped, err := d.Do(t.Context(), http.MethodGet, "/v1/jobs/"+id+"/logs", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Body.Close() // nothing is read of it
	cmd.Wait()
	t.Logf("%d MB in %v", size/1_000_000, time.Since(began).Round(time.Millisecond))
	want := sha256.New()
	want.Write(testprogram.RandomBytes(size))
	if code := cmd.ProcessState.ExitCode(); code != 4 || counted.n != size || !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Errorf("exit code %d, %d bytes, not %d, or others; %s", code, counted.n, size, errs.String())
	}
	checkNoContainers(t, site.engine)
}

type counter struct {
	w io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return c.w.Write(p)
}

func TestCtrlCEndsTheProgram(t *testing.T) {
	ref := testProgramRef(t, "runinterrupt")
	d, c := daemon(t)
	for name, row := range map[string]struct {
		steps   []string
		signals int
		least   time.Duration
		most    time.Duration
	}{
		"it heeds SIGTERM":        {[]string{"out=up\n", "sleep=1h"}, 1, 0, 8 * time.Second},
		"it ignores SIGTERM":      {[]string{"term", "out=up\n", "sleep=1h"}, 1, 9 * time.Second, 20 * time.Second},
		"it is not to be awaited": {[]string{"term", "out=up\n", "sleep=1h"}, 2, 0, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := startRun(t, d.Host, ref, row.steps...)
			p.out.await(t, "up\n")
			began := time.Now()
			p.Process.Signal(syscall.SIGINT)
			if row.signals == 2 {
				// The second counts once the first was taken.
				time.AfterFunc(time.Second, func() { p.Process.Signal(syscall.SIGINT) })
			}
			code := p.code()
			if row.signals == 2 && p.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGINT {
				code = 130 // as shells tell it
			}
			if took := time.Since(began); code != 130 || took < row.least || took > row.most {
				t.Errorf("exit code %d after %v: %s", code, took, p.errs)
			}
			jobs, _, err := c.Jobs(t.Context(), puller.Filter{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			if j, _ := ended(t, c, jobs[0].ID); j.State != puller.StateCanceled {
				t.Errorf("the job is %+v", j)
			}
			checkNoContainers(t, site.engine)
		})
	}
}

func TestRunCancelUnread(t *testing.T) {
	ref := testProgramRef(t, "runpipe")
	d, _ := daemon(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), site.bin, "--host", d.Host, "run", "-q", "--network", "none", ref, fmt.Sprint("random=", 1<<20), "sleep=1h")
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	io.ReadFull(read, make([]byte, 8))
	read.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 141 {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	checkNoContainers(t, site.engine)
}

func TestRunInvalidRequest(t *testing.T) {
	ref := testProgramRef(t, "runinvalid")
	d, _ := daemon(t)
	for _, c := range []struct {
		flags string
		code  int
		says  string
		usage bool // it is not asked for at all
	}{
		{"--entrypoint /nope", 127, "/nope", false},
		{"--entrypoint /etc/hosts", 126, "/etc/hosts", false},
		{"--user nobody-here", 125, "nobody-here", false},
		{"--memory 1m", 125, "inimum memory limit", false},
		{"--network host", 125, "network", false},
		{"--workdir here", 125, "workdir", false},
		{"--memory 0.5", 125, "memory", true},
		{"--cpus 1e-400", 125, "cpus", true},
		{"--workdir /" + strings.Repeat("x", 256), 125, "workdir", false},
		{"--workdir " + strings.Repeat("/x", 300), 125, "too many links in /x/x", false},
	} {
		args := append([]string{"run", "-q", "--network", "none"}, strings.Fields(c.flags)...)
		out, errs, code := towline(t, d.Host, append(args, ref, "out=ran")...)
		if code != c.code || strings.Contains(errs, "towline run --help") != c.usage || out != "" || !strings.Contains(errs, c.says) || strings.Contains(errs, "/overlay2/") {
			t.Errorf("%s: exit code %d, %q, %q", c.flags, code, out, errs)
		}
		t.Logf("%s: %s", c.flags, strings.TrimSpace(errs))
	}
	checkNoContainers(t, site.engine)
}

// An engine that is restarted ends what runs. A program that then exits well has
// not succeeded, nor is a code its own that the engine makes up.
func TestRunInterrupted(t *testing.T) {
	ref := testProgramRef(t, "runaway")
	own := lab.NeedPrivate(t, lab.PrivateOptions{})
	d, c := daemonWith(t, lab.TowlineOptions{EngineHost: own.Host})
	for _, s := range []struct {
		name  string
		end   func() error
		steps []string
		away  time.Duration
	}{
		{"killed, and it exits meanwhile", own.Kill, []string{"out=up\n", "sleep=1s", "exit=7"}, 3 * time.Second},
		{"killed, and ends it when it is back", own.Kill, []string{"out=up\n", "graceful", "sleep=1h"}, 0},
		{"stopped, and ends it", own.Stop, []string{"out=up\n", "graceful", "sleep=1h"}, 0},
	} {
		t.Run(s.name, func(t *testing.T) {
			p := startRun(t, d.Host, ref, s.steps...)
			p.out.await(t, "up\n")
			if err := s.end(); err != nil {
				t.Fatal(err)
			}
			<-time.After(s.away)
			if err := own.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if code := p.code(); code != 125 || p.out.String() != "up\n" || !strings.Contains(p.errs.String(), "restarted while the program ran") {
				t.Errorf("exit code %d: %q, %q", code, p.out, p.errs)
			}
			jobs, _, err := c.Jobs(t.Context(), puller.Filter{Limit: 1})
			if err != nil || len(jobs) != 1 || jobs[0].Error == nil || jobs[0].Error.Kind != puller.ErrEngineUnavailable || !jobs[0].Result.Interrupted || jobs[0].Result.ExitCode != nil {
				t.Errorf("the job is %+v, %v", jobs, err)
			}
			checkNoContainers(t, own)
		})
	}
}

func TestARunOutlivesItsDaemon(t *testing.T) {
	ref := testProgramRef(t, "runkill")
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	opts := lab.TowlineOptions{EngineHost: site.engine.Host}
	first, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Kill()
	p := startRun(t, first.Host, ref, "lines=500", "out=up\n", "sleep=4s", "lines=500", "exit=9")
	p.out.await(t, "up\n")
	c, err := client.New(first.Host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before, _, err := c.Jobs(t.Context(), puller.Filter{})
	if err != nil || len(before) != 1 {
		t.Fatal(before, err)
	}
	first.Kill()
	second, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Stop(); err != nil || t.Failed() {
			t.Errorf("%v\n%s", err, second.Log())
		}
	}()
	var out, errs strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&out, "stdout %d\n", i%500)
		fmt.Fprintf(&errs, "stderr %d\n", i%500)
		if i == 499 {
			out.WriteString("up\n")
		}
	}
	if code := p.code(); code != 9 || p.out.String() != out.String() || p.errs.String() != errs.String() {
		t.Errorf("exit code %d, %d bytes, not %d, and %d, not %d, or others: %.300q", code, len(p.out.String()), out.Len(), len(p.errs.String()), errs.Len(), p.errs)
	}
	after, _, err := c.Jobs(t.Context(), puller.Filter{})
	if err != nil || len(after) != 1 || after[0].ID != before[0].ID || *after[0].Result.ExitCode != 9 {
		t.Errorf("%+v, %v", after, err)
	}
	checkNoContainers(t, site.engine)
}

func TestRunOutputMissed(t *testing.T) {
	ref := testProgramRef(t, "runmissed")
	d, c := daemonWith(t, lab.TowlineOptions{EngineHost: site.engine.Host, Config: "runs: {output: 1048576}\n"})
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	const size = 32 << 20
	cmd := exec.CommandContext(t.Context(), site.bin, "--host", d.Host, "run", "-q", "--network", "none", ref, fmt.Sprint("random=", size), "exit=3")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = write, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	// Nobody reads until the program has ended.
	if err := lab.Poll(t.Context(), 50*time.Millisecond, func(ctx context.Context) error {
		jobs, _, err := c.Jobs(ctx, puller.Filter{State: puller.StateSucceeded})
		if err != nil || len(jobs) == 0 {
			return fmt.Errorf("it runs, %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	all := testprogram.RandomBytes(size)
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(errs.String(), "not kept") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if len(got) >= size || len(got) < 1<<19 || !bytes.HasSuffix(all, got[len(got)-1<<18:]) {
		t.Errorf("%d of %d bytes came, or not the last", len(got), size)
	}
}

var kills = flag.Int("runkills", 3, "how many runs' daemons are killed")

// A daemon that is killed anywhere in a run's life.
func TestRunDaemonKilled(t *testing.T) {
	ref := testProgramRef(t, "runkills")
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	opts := lab.TowlineOptions{EngineHost: site.engine.Host}
	d, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { d.Stop() }()
	for i := range *kills {
		p := startRun(t, d.Host, ref, "lines=200", "exit=9")
		<-time.After(time.Duration(100+60*i%900) * time.Millisecond)
		d.Kill()
		if d, err = lab.StartTowline(t.Context(), site.bin, dir, opts); err != nil {
			t.Fatal(err)
		}
		code := p.code()
		// Submitted to a daemon that is gone, or a program that may have run and
		// left nothing that tells how: neither makes up an exit code.
		if code == 9 && (strings.Count(p.out.String(), "\n") != 200 || strings.Count(p.errs.String(), "\n") != 200) {
			t.Errorf("%d: %d and %d lines", i, strings.Count(p.out.String(), "\n"), strings.Count(p.errs.String(), "\n"))
		}
		if code != 9 && code != 125 {
			t.Errorf("%d: exit code %d, %q", i, code, p.errs)
		}
		t.Logf("%d: exit code %d, %d bytes, %.200q", i, code, len(p.out.String()), lastLine(p.errs.String()))
	}
	checkNoContainers(t, site.engine)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

var printed = flag.Int("printed", 16, "how many MiB a run has printed when its daemon is killed; the engine keeps 100 MB")

// Much was printed, perhaps more than the engine keeps, when a daemon is killed: what can't be had any more is told, and nothing comes twice.
func TestRunPrintedMuchDaemonKilled(t *testing.T) {
	part := *printed << 20
	ref := testProgramRef(t, "runrotated")
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	opts := lab.TowlineOptions{EngineHost: site.engine.Host, Config: "runs: {output: 1073741824}\n"}
	first, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Kill()
	p := startRun(t, first.Host, ref, fmt.Sprint("random=", part), "err=up\n", "sleep=15s", "out=the end\n", "exit=9")
	p.errs.await(t, "up\n")
	if err := lab.Poll(t.Context(), 50*time.Millisecond, func(context.Context) error {
		if n := len(p.out.String()); n < part {
			return fmt.Errorf("%d of %d bytes", n, part)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	second, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Stop(); err != nil || t.Failed() {
			t.Errorf("%v\n%s", err, second.Log())
		}
	}()
	code := p.code()
	out := p.out.String()
	if code != 9 || out[:part] != string(testprogram.RandomBytes(part)) {
		t.Errorf("exit code %d, or other output before the kill", code)
	}
	jobs, _, err := func() ([]puller.Job, string, error) {
		c, err := client.New(second.Host, "")
		if err != nil {
			return nil, "", err
		}
		defer c.Close()
		return c.Jobs(t.Context(), puller.Filter{})
	}()
	if err != nil || len(jobs) != 1 || jobs[0].Result == nil {
		t.Fatal(jobs, err)
	}
	if rest := out[part:]; rest != "the end\n" && !jobs[0].Result.Truncated {
		t.Errorf("after the kill come %d bytes, %.100q, and nothing is told: %q", len(rest), rest, p.errs)
	}
	checkNoContainers(t, site.engine)
}
