package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// BuildStatic builds the Go program in the directory pkgDir into the file out, without
// cgo, for Linux on this machine's architecture, so that it runs in an empty image. Go's
// own messages are in the error.
func BuildStatic(ctx context.Context, pkgDir, out string) error {
	return build(ctx, pkgDir, out, []string{"CGO_ENABLED=0", "GOOS=linux"}, "-trimpath", "-ldflags=-s -w", ".")
}

// BuildTowline builds the towline command from the source tree that this package lies
// in, and returns the path of the binary, dir/towline. flags are for go build, such
// as "-race". It fails in a program built with -trimpath, which has forgotten where its
// source is.
func BuildTowline(ctx context.Context, dir string, flags ...string) (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("lab: building towline: the source tree is not known")
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")
	out := filepath.Join(dir, "towline")
	return out, build(ctx, root, out, nil, append(flags, "./cmd/towline")...)
}

func build(ctx context.Context, dir, out string, env []string, args ...string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", out}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: go build in %s: %w: %s", dir, err, text)
	}
	return nil
}
