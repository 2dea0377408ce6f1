package database

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
)

// A damaged file can end a process in ways that no recover stops: bbolt follows
// a page that leads back to itself until the stack is full. So another process
// looks at the whole file first. It writes these lines to its standard output.
const (
	saysBegun   = "checking" // always the first line
	saysWhole   = "whole"
	saysDamaged = "damaged: " // and how
	saysFailed  = "failed: "  // nothing is known about the file
)

// CheckMemory is how much memory a check may take, in bytes, beside a sixteenth of the size
// of the file. A good file of some GiB needs 100 MiB.
const CheckMemory = 1 << 30

// Limits of a check. A good file of some GiB needs little stack, and a disk reads 16 MiB in
// much less than a second.
const (
	checkStack      = 64 << 20
	checkTime       = time.Minute // and a second for each of these many bytes:
	checkBytesASec  = 16 << 20
	checkStderrMost = 2 << 10
)

// Check looks at all pages of a file and writes what it found to out, for the process
// that has run this one by CheckApart. A process that calls Check does nothing else: a
// damaged file may end it, and Check limits its memory, to CheckMemory or less, and its stack.
func Check(path string, memory int64, out io.Writer) {
	fmt.Fprintln(out, saysBegun)
	switch err := checkFile(path, memory); {
	case err == nil:
		fmt.Fprintln(out, saysWhole)
	case IsDamage(err):
		fmt.Fprintln(out, saysDamaged+oneLine(err))
	default:
		fmt.Fprintln(out, saysFailed+oneLine(err))
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }

func checkFile(path string, memory int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	debug.SetMaxStack(checkStack)
	limit := uint64(memory + info.Size()/16)
	// Some sandboxes forbid this. The check works without the limit.
	syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: limit, Max: limit})
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: lockWait, MmapFlags: populate})
	if err != nil {
		return err
	}
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	for err := range tx.Check() {
		return Damagef("%w", err)
	}
	// bbolt does not look at values. One with a wrong size may reach out of the
	// file: its last byte can't be read, which ends the process.
	var last byte
	err = tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(_, value []byte) error {
			if n := len(value); n > 0 {
				last ^= value[n-1]
			}
			return nil
		})
	})
	runtime.KeepAlive(last)
	return errors.Join(err, tx.Rollback(), db.Close())
}

// CheckApart has another process check the file at a path: checker is the command of a
// process that calls Check; the path is added as its last argument. Without a command
// nothing is checked. An error that is damage comes from that process, or from the way in
// which it crashed. An error that is not is that of the file, or the cause of ctx. Where
// nothing was found out, that is logged, and the error is nil.
func CheckApart(ctx context.Context, checker []string, path string, log logrus.FieldLogger) error {
	if len(checker) == 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, checkTime+time.Duration(info.Size()/checkBytesASec)*time.Second)
	defer cancel()
	command := exec.CommandContext(limited, checker[0], append(checker[1:len(checker):len(checker)], path)...)
	command.Env = []string{"GOTRACEBACK=none"}
	var said bytes.Buffer
	var complaint firstBytes
	command.Stdout, command.Stderr = &said, &complaint
	err = command.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	begun, verdict, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	damage, damaged := strings.CutPrefix(verdict, saysDamaged)
	switch {
	case begun != saysBegun:
		// It was not a check that ran.
	case damaged:
		return Damagef("%s", damage)
	case err == nil && verdict == saysWhole:
		return nil
	case crashed(err):
		return Damagef("the check of the file crashed: %w: %s", err, complaint.line())
	}
	if limited.Err() != nil {
		err = errors.New("it took too long")
	}
	log.WithFields(logrus.Fields{"path": path, "error": err, "output": strings.TrimSpace(verdict + " " + complaint.line())}).
		Warn("the file of jobs could not be checked before its use; damage in it shows only when it is read")
	return nil
}

// crashed says whether a process ended as one does that reads a damaged file: Go
// exits with 2 after a fatal error. Signals that others send are no sign of
// damage.
func crashed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	faults := []syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGABRT, syscall.SIGILL, syscall.SIGFPE}
	return ok && (status.ExitStatus() == 2 || slices.Contains(faults, status.Signal()))
}

// firstBytes keeps the first bytes that are written to it.
type firstBytes struct{ bytes.Buffer }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.Buffer.Write(p[:min(len(p), max(0, checkStderrMost-f.Len()))])
	return len(p), nil
}

func (f *firstBytes) line() string {
	line, _, _ := strings.Cut(strings.TrimSpace(f.String()), "\n")
	return line
}
