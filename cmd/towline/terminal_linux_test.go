package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/fleet"
)

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

func TestRunToATerminal(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	for flags, want := range map[string]string{"": "ab\nc\n", "--tty": "a\x1b[31mb\n\x1b]0;t\x07c\n"} {
		t.Run("flags "+flags, func(t *testing.T) {
			screen, terminal := openTerminal(t)
			cmd := itself(t, append(append([]string{"run"}, strings.Fields(flags)...), "actor", "out=a\x1b[3", "out=1mb\n\x1b]0;", "out=t\x07c\n")...)
			cmd.Env = append(cmd.Env, "TOWLINE_HOST="+host)
			cmd.Stdout, cmd.Stderr = terminal, terminal
			err := cmd.Run()
			terminal.Close()
			shown, _ := io.ReadAll(screen) // ends with an error, because the terminal is closed
			// The bars of the pull are above the output.
			if text := strings.ReplaceAll(string(shown), "\r", ""); err != nil || !strings.HasSuffix(text, want) {
				t.Errorf("%v, %q", err, text)
			}
		})
	}
}

func TestPrewarmToATerminal(t *testing.T) {
	prewarm := func(t *testing.T, environment ...string) (shown string) {
		host, engine, _ := startDaemon(t)
		scriptAll(engine)
		screen, terminal := openTerminal(t)
		if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
			t.Fatal(err)
		}
		cmd := itself(t, "prewarm", "--retries", "0", "good.test/b:v1", "registry.test/nope:v1", "good.test/a:v1")
		cmd.Env = append(append(cmd.Env, "TOWLINE_HOST="+host), environment...)
		cmd.Stdout, cmd.Stderr = terminal, terminal
		err := cmd.Run()
		terminal.Close()
		text, _ := io.ReadAll(screen)
		if cmd.ProcessState.ExitCode() != exit.CodePermanent {
			t.Errorf("%v, %q", err, text)
		}
		return strings.ReplaceAll(string(text), "\r", "")
	}
	t.Run("NO_COLOR", func(t *testing.T) {
		pictures := strings.Split(prewarm(t, "TERM=xterm", "NO_COLOR=1"), "\x1b[J")
		if len(pictures) < 2 || strings.Contains(strings.Join(pictures, ""), "\x1b[3") {
			t.Fatalf("%q", pictures)
		}
		checkWords(t, pictures[0], "good.test/b:v1        waiting\nregistry.test/nope:v1  waiting\ngood.test/a:v1        waiting\nprewarm: ", ", 0 of 3 images ready")
		checkWords(t, pictures[len(pictures)-1], "good.test/b:v1: pulled, sha256:"+strings.Repeat("0", 63)+"2, 2.0 kB in ",
			"\nregistry.test/nope:v1: failed: not_found\ngood.test/a:v1: pulled, ", "\nprewarm: failed: 2 of 3 images ready, 1 failed\nfailed: registry.test/nope:v1\n    not_found: ")
		checkWords(t, pictures[len(pictures)-1], "1 of 3 images failed\n")
	})
	t.Run("colors", func(t *testing.T) {
		checkWords(t, prewarm(t, "TERM=xterm", "NO_COLOR="), "good.test/b:v1: \x1b[32mpulled, ", "registry.test/nope:v1: \x1b[31mfailed: not_found\x1b[0m\n",
			"\x1b[31mprewarm: failed: 2 of 3 images ready, 1 failed\x1b[0m\n\x1b[31mfailed:\x1b[0m registry.test/nope:v1\n", "\x1b[31mtowline:\x1b[0m 1 of 3")
	})
	t.Run("dumb", func(t *testing.T) {
		shown := prewarm(t, "TERM=dumb", "NO_COLOR=")
		if checkWords(t, shown, "\nprewarm: failed: 2 of 3 images ready, 1 failed\n", "IMAGE "); strings.Contains(shown, "\x1b") {
			t.Errorf("%q", shown)
		}
	})
}

func TestFleetToATerminal(t *testing.T) {
	for name, c := range map[string]struct {
		interrupt bool
		code      int
		want      []string // in the last picture, and below it
	}{
		"failed": {false, exit.CodePermanent, []string{
			"[========xxxxxxxx        ]  web: generation 1, 1 proven, 1 failed, 1 away, rollout", "\n  two failed: denied: no access\n", "HOST   STATE   HAS  REASON\ntwo    failed  -    denied: no access\nthree  away ",
		}},
		"interrupt": {true, exit.CodeInterrupted, []string{"towline: interrupted; the hosts go on\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			host, f := startFleet(t)
			screen, terminal := openTerminal(t)
			if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
				t.Fatal(err)
			}
			cmd := itself(t, "fleet", "apply", "web", "redis:7", "--wait")
			cmd.Env = append(cmd.Env, "TOWLINE_HOST="+host, "TERM=xterm", "NO_COLOR=1")
			cmd.Stdout, cmd.Stderr = terminal, terminal
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			terminal.Close()
			var shown strings.Builder
			more := make([]byte, 4<<10)
			for acted := false; ; {
				n, err := screen.Read(more)
				if err != nil {
					break // the program has ended
				}
				shown.Write(more[:n])
				if acted || !strings.Contains(shown.String(), "2 waiting") {
					continue
				}
				acted = true
				f.Report("web", "one", fleet.StateProven, nil)
				if c.interrupt {
					cmd.Process.Signal(os.Interrupt)
					continue
				}
				f.Report("web", "two", fleet.StateFailed, puller.Errorf(puller.ErrDenied, "no access"))
			}
			err := cmd.Wait()
			text := strings.ReplaceAll(shown.String(), "\r", "")
			last := text[strings.LastIndex(text, "\x1b[J")+3:]
			if cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("%v: %q", err, text)
			}
			for _, want := range c.want {
				if !strings.Contains(last, want) {
					t.Errorf("%q is missing in %q", want, last)
				}
			}
		})
	}
}
