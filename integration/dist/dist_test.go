//go:build dist

// Package dist tests what "make dist" builds: that two builds are equal, and that the
// deb package can be installed, used, upgraded and removed. It takes minutes, so it is
// part of "make dist-test" only.
package dist

import (
	"bytes"
	"context"
	"debug/elf"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/integration/lab"
)

// build builds a version, and returns the directory.
func build(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "../../.ci/dist.sh", dir)
	cmd.Env = append(os.Environ(), "VERSION="+version, "ARCHES=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestDist(t *testing.T) {
	older, newer, again := build(t, "v0.0.1"), build(t, "v0.0.2"), build(t, "v0.0.2")
	one, err := os.ReadFile(filepath.Join(newer, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(filepath.Join(again, "SHA256SUMS"))
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two builds differ (%v):\n%s\n%s", err, one, two)
	}
	for _, kind := range []string{".deb", ".rpm", ".tar.gz", ".cdx.json"} {
		if !strings.Contains(string(one), kind) {
			t.Errorf("there is no %s:\n%s", kind, one)
		}
	}

	root := newRoot(t)
	root.dpkg("-i", filepath.Join(older, "towline_0.0.1_amd64.deb"))
	engine := lab.NeedPrivate(t, lab.PrivateOptions{})
	root.complete(engine.Host)
	rpm, err := os.ReadFile(filepath.Join(older, "towline-0.0.1-1.x86_64.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range installed { // the header of the package is not compressed
		if !bytes.Contains(rpm, []byte(filepath.Base(path)+"\x00")) {
			t.Errorf("the rpm package has no %s", path)
		}
	}
	registry, err := lab.StartRegistry(lab.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { registry.Close() })
	image, err := lab.RandomImage(1, 1, 1<<20, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Push(t.Context(), "dist", "v1", image); err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	pull := func(version string) {
		t.Helper()
		bin := root.unitsBinary()
		d, err := lab.StartTowline(t.Context(), bin, state, lab.TowlineOptions{EngineHost: engine.Host})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Stop()
		out, err := exec.CommandContext(t.Context(), bin, "--host", d.Host, "pull", registry.Ref("dist", "v1")).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if out, err := exec.CommandContext(t.Context(), bin, "--host", d.Host, "version").CombinedOutput(); err != nil || !strings.Contains(string(out), version) {
			t.Errorf("%v: %s", err, out)
		}
		resp, err := d.Do(t.Context(), http.MethodGet, "/v1/jobs", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		body.ReadFrom(resp.Body)
		if n := strings.Count(body.String(), `"kind":"pull"`); version == "0.0.2" && n != 2 {
			t.Errorf("after the upgrade there are %d jobs: %s", n, &body)
		}
	}
	pull("0.0.1")
	config := filepath.Join(root.dir, "etc/towline/towline.yaml")
	if err := os.WriteFile(config, []byte("log: {level: debug}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	root.dpkg("-i", filepath.Join(newer, "towline_0.0.2_amd64.deb"))
	if kept, err := os.ReadFile(config); err != nil || string(kept) != "log: {level: debug}\n" {
		t.Errorf("the upgrade changed the configuration: %q, %v", kept, err)
	}
	pull("0.0.2")
	root.dpkg("--purge", "towline")
	filepath.WalkDir(root.dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.Contains(path, "/var/lib/dpkg/") {
			t.Errorf("%s is left over", path)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(state, "state", "jobs.db")); err != nil {
		t.Errorf("the state is gone: %v", err)
	}
}

// root is a directory into which packages are installed, with their scripts.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T) root {
	r := root{t, t.TempDir()}
	for _, dir := range []string{"info", "updates"} {
		if err := os.MkdirAll(filepath.Join(r.dir, "var/lib/dpkg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(r.dir, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r root) dpkg(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), "dpkg", append([]string{"--root=" + r.dir, "--force-script-chrootless", "--force-confold", "--log=/dev/null"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// installed are files of the packages.
var installed = []string{
	"etc/towline/towline.yaml",
	"usr/bin/towline",
	"usr/lib/systemd/system/towline.service",
	"usr/lib/systemd/system/towline.socket",
	"usr/lib/sysusers.d/towline.conf",
	"usr/share/bash-completion/completions/towline",
	"usr/share/fish/vendor_completions.d/towline.fish",
	"usr/share/man/man1/towline.1",
	"usr/share/man/man1/towline-pull.1",
	"usr/libexec/docker/cli-plugins/docker-towline",
}

// complete checks what is installed: all files, a static program, a configuration that a start
// takes, and units that systemd takes.
func (r root) complete(engine string) {
	r.t.Helper()
	for _, path := range installed {
		if _, err := os.Lstat(filepath.Join(r.dir, path)); err != nil {
			r.t.Error(err)
		}
	}
	readme, err := os.ReadFile(filepath.Join(r.dir, "usr/share/doc/towline/README.md"))
	if err != nil {
		r.t.Fatal(err)
	}
	if links := regexp.MustCompile(`\]\([^#h)][^)]*\)`).FindAllString(string(readme), -1); len(links) > 0 || !strings.Contains(string(readme), "](https://") {
		r.t.Errorf("the README has links that lead nowhere: %s", links)
	}
	bin := r.unitsBinary()
	program, err := elf.Open(bin)
	if err != nil {
		r.t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			r.t.Error("the program is not static")
		}
	}
	check := exec.CommandContext(r.t.Context(), bin, "serve", "--check", "--config", filepath.Join(r.dir, installed[0]))
	check.Env = append(os.Environ(), "TOWLINE_ENGINE_HOST="+engine)
	if out, err := check.CombinedOutput(); err != nil {
		r.t.Errorf("%v\n%s", err, out)
	}
	plugin, err := os.Readlink(filepath.Join(r.dir, installed[len(installed)-1]))
	if err != nil || filepath.Join(r.dir, plugin) != bin {
		r.t.Errorf("the plugin is a link to %s, %v", plugin, err)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return
	}
	units := r.t.TempDir()
	for _, name := range []string{"towline.service", "towline.socket"} {
		unit, err := os.ReadFile(filepath.Join(r.dir, "usr/lib/systemd/system", name))
		if err != nil {
			r.t.Fatal(err)
		}
		unit = bytes.ReplaceAll(unit, []byte("=/usr/bin/towline"), []byte("="+bin)) // there has to be one
		if err := os.WriteFile(filepath.Join(units, name), unit, 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	verify := exec.CommandContext(r.t.Context(), "systemd-analyze", "verify", filepath.Join(units, "towline.service"), filepath.Join(units, "towline.socket"))
	if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), "towline") {
		r.t.Errorf("%v\n%s", err, out)
	}
}

// unitsBinary returns what the unit starts, in the directory.
func (r root) unitsBinary() string {
	unit, err := os.ReadFile(filepath.Join(r.dir, "usr/lib/systemd/system/towline.service"))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(unit)) {
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			fields := strings.Fields(command)
			if len(fields) != 2 || fields[1] != "serve" {
				r.t.Fatalf("the unit starts %q", fields)
			}
			return filepath.Join(r.dir, fields[0])
		}
	}
	r.t.Fatal("the unit starts nothing")
	return ""
}
