package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// engineBinary returns the path of dockerd, installing it where that is possible:
// as root, on Debian, Ubuntu and what descends from them.
func engineBinary(ctx context.Context, logf func(string, ...any)) (string, error) {
	return installed(ctx, "dockerd", "docker.io", lookDockerd, install, logf)
}

// DockerCLI returns the path of Docker's command line, which is installed like the
// engine where there is none. logf may be nil.
func DockerCLI(ctx context.Context, logf func(string, ...any)) (string, error) {
	path, err := installed(ctx, "docker", "docker.io", look("docker"), install, logf)
	if err != nil {
		return "", fmt.Errorf("lab: docker: %w", err)
	}
	return path, nil
}

// podmanBinary returns the path of podman, which is installed like the engine where
// there is none.
func podmanBinary(ctx context.Context, logf func(string, ...any)) (string, error) {
	return installed(ctx, "podman", "podman", look("podman"), installPodman, logf)
}

// Chromium returns the path of the Chromium browser, which is installed like the engine
// where there is none. logf may be nil.
func Chromium(ctx context.Context, logf func(string, ...any)) (string, error) {
	path, err := installed(ctx, "chromium", "chromium", look("chromium"), installPackage("chromium"), logf)
	if err != nil {
		return "", fmt.Errorf("lab: chromium: %w", err)
	}
	return path, nil
}

// DockerCompose returns the path of docker-compose, which is installed like the engine
// where there is none. logf may be nil.
func DockerCompose(ctx context.Context, logf func(string, ...any)) (string, error) {
	path, err := installed(ctx, "docker-compose", "docker-compose", look("docker-compose"), installPackage("docker-compose"), logf)
	if err != nil {
		return "", fmt.Errorf("lab: docker-compose: %w", err)
	}
	return path, nil
}

// look looks for a program in PATH.
func look(name string) func() (string, bool) {
	return func() (string, bool) {
		path, err := exec.LookPath(name)
		return path, err == nil
	}
}

// installed returns what look finds, after an installation of a package if it finds
// nothing before. One process installs at a time, and the others wait for it.
func installed(ctx context.Context, name, pkg string, look func() (string, bool), install func(context.Context) error, logf func(string, ...any)) (string, error) {
	unlock, err := lockFile("towline-lab.lock", syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, ok := look(); ok {
		return path, nil
	}
	if !aptMachine() {
		return "", fmt.Errorf("no %s in PATH, and no apt-get to install it with", name)
	}
	if logf != nil {
		logf("%s: there is none here; installing %s with apt-get", name, pkg)
	}
	if err := install(ctx); err != nil {
		return "", err
	}
	path, ok := look()
	if !ok {
		return "", fmt.Errorf("%s is installed, and there is still no %s", pkg, name)
	}
	return path, nil
}

// lookDockerd also looks where root's programs are: a caller's PATH often lacks it.
func lookDockerd() (string, bool) {
	for _, name := range []string{"dockerd", "/usr/sbin/dockerd", "/usr/local/sbin/dockerd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

func aptMachine() bool {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return false
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return false
	}
	var family []string // ID and ID_LIKE; see os-release(5)
	for line := range strings.Lines(string(release)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			family = append(family, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return slices.Contains(family, "debian") || slices.Contains(family, "ubuntu")
}

// install installs docker.io, and Docker's command line where that is a package of
// its own and there is none yet.
func install(ctx context.Context) error {
	// No fresh lists is no reason to give up: the packages may be known already.
	update := apt(ctx, "update")
	if err := apt(ctx, "install", "-y", "--no-install-recommends", "docker.io"); err != nil {
		return errors.Join(err, update)
	}
	// The package starts an engine for the whole system where there is an init system
	// to do so. Nobody asked for that one.
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		exec.CommandContext(ctx, "systemctl", "stop", "docker.socket", "docker.service").Run()
	} else if _, err := os.Stat("/etc/init.d/docker"); err == nil {
		exec.CommandContext(ctx, "/etc/init.d/docker", "stop").Run()
	}
	if _, err := exec.LookPath("docker"); err == nil {
		return nil
	}
	if exec.CommandContext(ctx, "apt-cache", "show", "docker-cli").Run() != nil {
		return nil
	}
	return apt(ctx, "install", "-y", "--no-install-recommends", "docker-cli")
}

// installPackage installs a package and nothing else.
func installPackage(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		update := apt(ctx, "update")
		if err := apt(ctx, "install", "-y", "--no-install-recommends", name); err != nil {
			return errors.Join(err, update)
		}
		return nil
	}
}

// installPodman installs podman, and stops the service of it that the package starts.
func installPodman(ctx context.Context) error {
	update := apt(ctx, "update")
	if err := apt(ctx, "install", "-y", "--no-install-recommends", "podman"); err != nil {
		return errors.Join(err, update)
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		exec.CommandContext(ctx, "systemctl", "stop", "podman.socket", "podman.service").Run()
	}
	return nil
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, lastLines(string(out), 10))
	}
	return nil
}
