package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// mountsUnder returns the mount points at dir and below it, the latest first, which
// is the order to unmount them in. dir must be free of symbolic links.
func mountsUnder(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	// Fields and escapes: proc(5). The fifth field is the mount point.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	slices.Reverse(points)
	return points, nil
}

// mountDisk makes an ext4 file system of so many MiB in a file, and mounts it. The loop
// device goes with the mount.
func mountDisk(file, dir string, mib int) error {
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, int64(mib)<<20)); err != nil {
		return err
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", file}, {"mount", "-o", "loop", file, dir}} {
		if text, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("no file system in a file: %s: %w: %s", command, err, text)
		}
	}
	return nil
}

// unmountUnder detaches every mount at dir and below it.
func unmountUnder(dir string) error {
	points, err := mountsUnder(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, point := range points {
		// Detaching a mount takes those below it along; EINVAL then says "none here".
		err := syscall.Unmount(point, syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}
