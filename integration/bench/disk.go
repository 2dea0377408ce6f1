package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a place to keep jobs on.
type disk struct{ name, dir string }

// disks returns the one that dir is on and, for root, two more in files there:
// the fsync of an SSD in a virtual machine costs next to nothing, that of
// others does. With data=journal ext4 writes twice what it is to keep.
func disks(ctx context.Context, dir string) (all []disk, unmount func(), err error) {
	all = []disk{{"this disk", dir}}
	var mounted []string
	unmount = func() {
		for _, m := range mounted {
			exec.Command("umount", m).Run()
		}
	}
	if os.Geteuid() != 0 {
		return all, unmount, nil
	}
	for _, kind := range []struct{ name, dir, options string }{
		{"ext4 in a file", "o", "loop"},
		{"ext4 in a file, data=journal", "j", "loop,data=journal"},
	} {
		at := filepath.Join(dir, kind.dir)
		if err := mount(ctx, at, kind.options); err != nil {
			fmt.Printf("      not measured on %s: %v\n", kind.name, err)
			continue
		}
		mounted = append(mounted, at)
		all = append(all, disk{kind.name, at})
	}
	return all, unmount, nil
}

func mount(ctx context.Context, at, options string) error {
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	file := at + ".img"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(file, 1<<30); err != nil {
		return err
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", file}, {"mount", "-o", options, file, at}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return nil
}

// fsyncs returns how many times a second the disk under dir takes 4 KiB, over
// what is there, and flushes them.
func fsyncs(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4<<10)
	if _, err := f.WriteAt(block, 0); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	n, start := 0, time.Now()
	for ; time.Since(start) < time.Second; n++ {
		block[0]++
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// dropCaches has the kernel forget what it has read of files.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
