package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/puller/enginetest"
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

func TestARunToATerminalHasItsTextOnlyUnlessItHasATTY(t *testing.T) {
	host, engine, _ := startDaemon(t)
	have(engine, "actor", enginetest.TestProgram)
	for tty, want := range map[string]string{"": "ab\nc\n", "--tty": "a\x1b[31mb\n\x1b]0;t\x07c\n"} {
		screen, terminal := openTerminal(t)
		args := append(append([]string{"run"}, strings.Fields(tty)...), "actor", "out=a\x1b[3", "out=1mb\n\x1b]0;", "out=t\x07c\n")
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asTowline+"="+strings.Join(args, "\x1f"), "TOWLINE_HOST="+host)
		cmd.Stdout, cmd.Stderr = terminal, terminal
		err := cmd.Run()
		terminal.Close()
		shown, _ := io.ReadAll(screen) // it ends with an error: there is no terminal any more
		// The pull is shown above what the program prints, which ends its bars.
		if text := strings.ReplaceAll(string(shown), "\r", ""); err != nil || !strings.HasSuffix(text, want) {
			t.Errorf("%q: %v, %q", tty, err, text)
		}
	}
}
