// Package hosts writes the file that tells an engine of a mirror.
package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ownLine is the first line of a hosts.toml that Towline wrote. A file without it is
// somebody else's.
const ownLine = "# Written by Towline. \"towline mirror remove\" removes it."

// File is where an engine looks for mirrors of all registries (containerd,
// "Registry Configuration"; Docker from version 28 on reads it under
// /etc/docker/certs.d).
func File(dir string) string { return filepath.Join(dir, "_default", "hosts.toml") }

// Write names an endpoint as the mirror of all registries, for content by its digest. What a tag
// stands for, an engine asks the registry: the file stays while Towline is down, and then any
// process of the machine may take the port. The error says so where the file is not Towline's.
func Write(dir, endpoint string) error {
	file := File(dir)
	content := fmt.Sprintf("%s\n[host.%q]\n  capabilities = [\"pull\"]\n", ownLine, "http://"+endpoint)
	switch written, err := os.ReadFile(file); {
	case err == nil && string(written) == content:
		return nil
	case err == nil && !isOwn(written):
		return fmt.Errorf("%s is not of Towline; remove it, or clear mirror.hosts_dir", file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	// Renamed into place: the engine may read it at any time.
	part, err := os.CreateTemp(filepath.Dir(file), ".towline-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = part.WriteString(content)
	if err = errors.Join(err, part.Chmod(0o644), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), file)
}

// HasOwn reports whether a registry has a directory of its own in a directory, as one with an
// authority of its own does. An engine then asks no mirror of all registries for its images.
func HasOwn(dir, registry string) bool {
	own := []string{registry}
	if at := strings.LastIndexByte(registry, ':'); at > 0 {
		own = append(own, registry[:at]+"_"+registry[at+1:]+"_") // for file systems without colons in names
	}
	return slices.ContainsFunc(own, func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	})
}

// Remove removes the hosts.toml that Towline wrote in a directory. It is no error
// if there is none. It reports whether it removed one.
func Remove(dir string) (removed bool, err error) {
	file := File(dir)
	written, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !isOwn(written):
		return false, fmt.Errorf("%s is not of Towline, and stays", file)
	}
	if err := os.Remove(file); err != nil {
		return false, err
	}
	os.Remove(filepath.Dir(file)) // fails if something else is in it
	return true, nil
}

func isOwn(content []byte) bool { return strings.HasPrefix(string(content), ownLine) }
