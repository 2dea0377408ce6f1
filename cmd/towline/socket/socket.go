// Package socket says why a unix socket can't be used, and what to do about it.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Fault is why a socket can't be used.
type Fault struct {
	Reason string // what is wrong
	Fix    string // what to do; a command where one does it
	// Missing says that there is no socket.
	Missing bool
}

func (f *Fault) Error() string { return f.Reason + ". " + f.Fix }

// Path returns the path of an address such as unix:///run/docker.sock. ok is false for
// other addresses.
func Path(address string) (path string, ok bool) { return strings.CutPrefix(address, "unix://") }

// Describe says whose a socket is.
func Describe(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path
	}
	return describe(path, info)
}

// Check returns why this process can't use the socket at a path, nil if it may. It does
// not connect. start is the command that starts what listens there.
func Check(path, start string) *Fault {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Fault{Reason: "there is no socket at " + path, Fix: "Start what listens there: " + start, Missing: true}
	case errors.Is(err, fs.ErrPermission):
		return &Fault{Reason: fmt.Sprintf("%s can't be seen: %s may not search a directory above it", path, process()), Fix: "Run this as root, or let this user search that directory"}
	case err != nil:
		return &Fault{Reason: fmt.Sprintf("%s can't be looked at: %v", path, err), Fix: "Check the path"}
	case info.Mode().Type() != fs.ModeSocket:
		return &Fault{Reason: path + " is no socket", Fix: "Check the path, or remove the file"}
	}
	return access(path, info)
}
