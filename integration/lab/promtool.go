package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// NeedPromtool returns the path of promtool. Where there is none, and the machine is a
// Debian or an Ubuntu, it is taken out of the package prometheus, which is not installed:
// it would start a server. Where it can't be had, the test is skipped.
func NeedPromtool(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	own := filepath.Join(cache, "towline-lab", "promtool")
	find := func() (string, bool) {
		for _, name := range []string{"promtool", own} {
			if path, err := exec.LookPath(name); err == nil {
				return path, true
			}
		}
		return "", false
	}
	extract := func(ctx context.Context) error { return extractFrom(ctx, "prometheus", "usr/bin/promtool", own) }
	path, err := installed(ctx, "promtool", "prometheus", find, extract, t.Logf)
	if err != nil {
		t.Skipf("promtool is not to be had here: %v", err)
	}
	return path
}

// extractFrom puts a file of a Debian package at a path, and installs nothing.
func extractFrom(ctx context.Context, pkg, file, to string) error {
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, lastLines(string(out), 10))
		}
		return nil
	}
	if err := run("apt-get", "-q", "download", pkg); err != nil {
		if update := apt(ctx, "update"); update != nil {
			return fmt.Errorf("%w; %w", err, update)
		}
		if err := run("apt-get", "-q", "download", pkg); err != nil {
			return err
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download %s: %d files", pkg, len(found))
	}
	if err := run("dpkg-deb", "-x", found[0], "out"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(dir, "out", file))
	if err != nil {
		return err
	}
	next := to + ".new"
	if err := os.WriteFile(next, content, 0o755); err != nil {
		return err
	}
	return os.Rename(next, to)
}
