package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Pulling returns the stacks of those goroutines of a private engine's dockerd
// that are in a pull, none where it is in none. Counting all would not do: dockerd
// 20.10 leaves one behind, which writes progress, for each pull whose client is
// gone before it has begun.
func (e *Engine) Pulling() ([]string, error) {
	text, err := e.stacks()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Split(text, "\n\n"), func(stack string) bool {
		frames, _, _ := strings.Cut(stack, "\ncreated by ")
		return !strings.Contains(frames, "postImagesCreate") && !strings.Contains(frames, "/distribution/xfer.")
	}), nil
}

// stacks returns what each goroutine of dockerd does, as it writes it on SIGUSR1:
// it need not answer for that. An error is that it has not within 10 s.
func (e *Engine) stacks() (string, error) {
	if e.own == nil {
		return "", errShared
	}
	written := filepath.Join(e.own.execRoot(), "goroutine-stacks-*.log")
	old, err := filepath.Glob(written)
	for _, file := range old { // one of the same second would be written over
		err = errors.Join(err, os.Remove(file))
	}
	if err := errors.Join(err, e.signal(syscall.SIGUSR1)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var text []byte
	err = Poll(ctx, 20*time.Millisecond, func(context.Context) error {
		files, err := filepath.Glob(written)
		if err != nil || len(files) == 0 {
			return errors.Join(err, errors.New("lab: the engine has written no stacks"))
		}
		if text, err = os.ReadFile(files[0]); err == nil && !strings.HasSuffix(string(text), "\n") {
			err = errors.New("lab: the engine has not written all its stacks yet")
		}
		return err
	})
	return string(text), err
}
