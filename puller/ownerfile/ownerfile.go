// Package ownerfile reads files that only their owner may write to: who can write to one
// decides what Towline does.
package ownerfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Read reads a regular file of at most so many bytes. It returns its permissions too. The
// error says what to do where other users can write to the file. It does not name the file,
// unless it is of the operating system.
func Read(path string, most int) (content []byte, mode fs.FileMode, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would block
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, errors.New("it is no file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, 0, fmt.Errorf("other users can write to it (%v); run chmod go-w on it", info.Mode().Perm())
	}
	content, err = io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(content) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return content, info.Mode().Perm(), err
}
