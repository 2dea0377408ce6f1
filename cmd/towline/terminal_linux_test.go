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
