package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// OnTerminal runs a command on a terminal of its own, 150 columns wide, and returns all
// that was written to it. each, if not nil, is called with that after every piece. The
// error is that of the command, or of there being no terminal.
func OnTerminal(cmd *exec.Cmd, each func(so []byte)) ([]byte, error) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("lab: terminal: %w", err)
	}
	defer terminal.Close()
	fd := int(terminal.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), // 0 unlocks it
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 150}))
	if err != nil {
		return nil, fmt.Errorf("lab: terminal: %w", err)
	}
	side, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("lab: terminal: %w", err)
	}
	defer side.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = side, side, side
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	side.Close()
	var all bytes.Buffer
	piece := make([]byte, 4<<10)
	for {
		n, err := terminal.Read(piece)
		all.Write(piece[:n])
		if n > 0 && each != nil {
			each(all.Bytes())
		}
		if errors.Is(err, syscall.EIO) || errors.Is(err, io.EOF) {
			return all.Bytes(), cmd.Wait() // nobody has the other side any more
		}
		if err != nil {
			cmd.Process.Kill()
			return all.Bytes(), errors.Join(err, cmd.Wait())
		}
	}
}
