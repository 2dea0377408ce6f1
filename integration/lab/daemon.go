package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// socketPathMax is the longest path of a unix socket in bytes; see unix(7): 108 with
// the closing zero.
const socketPathMax = 107

// daemon is a dockerd of our own with all it leaves on the machine.
type daemon struct {
	binary string
	flags  []string
	space  string // the network namespace; "" for this process's own
	dir    string // holds data, log, pid and daemon.json; removed as a whole
	run    string // holds the sockets: dir, or a shorter path that dir/run links to

	mu   sync.Mutex
	proc *process // the present or the last one; nil before the first start
}

func (d *daemon) data() string     { return filepath.Join(d.dir, "data") }
func (d *daemon) log() string      { return filepath.Join(d.dir, "log") }
func (d *daemon) execRoot() string { return filepath.Join(d.run, "exec") }
func (d *daemon) socket() string   { return filepath.Join(d.run, "docker.sock") }

// newDaemon lays out parent/dockerd, after clearing what an earlier run left there.
func newDaemon(binary, parent string, opts PrivateOptions) (*daemon, error) {
	dir, err := filepath.Abs(filepath.Join(parent, "dockerd"))
	if err == nil {
		err = os.MkdirAll(dir, 0o711)
	}
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // as mountinfo and /proc show it
	}
	if err != nil {
		return nil, err
	}
	link := filepath.Join(dir, "run")
	d := &daemon{binary: binary, flags: opts.Flags, space: opts.Namespace, dir: dir, run: dir}
	if target, err := os.Readlink(link); err == nil {
		d.run = target
	}
	if err := d.clear(); err != nil {
		return nil, fmt.Errorf("clearing what an earlier run left: %w", err)
	}
	d.run = dir
	if err := os.MkdirAll(d.data(), 0o711); err != nil {
		return nil, err
	}
	// The longest path below run that an engine has been seen to bind.
	if len(d.execRoot())+len("/containerd/containerd-debug.sock") > socketPathMax {
		if d.run, err = os.MkdirTemp("", "tl"); err != nil {
			return nil, err
		}
		// The link tells a later run in dir where to look.
		if err := os.Symlink(d.run, link); err != nil {
			return nil, errors.Join(err, os.Remove(d.run))
		}
	}
	if opts.TmpfsMiB > 0 {
		size := fmt.Sprintf("size=%dm,mode=0711", opts.TmpfsMiB)
		if err := syscall.Mount("tmpfs", d.data(), "tmpfs", 0, size); err != nil {
			return nil, errors.Join(fmt.Errorf("mounting a tmpfs: %w", err), d.clear())
		}
	}
	if opts.DiskMiB > 0 {
		if err := mountDisk(filepath.Join(dir, "disk"), d.data(), opts.DiskMiB); err != nil {
			return nil, errors.Join(err, d.clear())
		}
	}
	return d, os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}\n"), 0o600)
}

// launch starts dockerd, and returns at once.
func (d *daemon) launch() (*process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc.running() {
		return nil, errors.New("dockerd runs already")
	}
	// After a kill, dockerd believes the numbers in its pid files as long as anybody
	// has them, and waits in vain even for a containerd that is a zombie (20.10, in
	// containers and machines whose first process does not reap).
	if err := killEngine(d.execRoot(), false); err != nil {
		return nil, err
	}
	pidFile := filepath.Join(d.dir, "pid")
	for _, path := range []string{pidFile, filepath.Join(d.execRoot(), "containerd", "containerd.pid")} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(d.binary, append([]string{
		"--host=unix://" + d.socket(),
		"--data-root=" + d.data(),
		"--exec-root=" + d.execRoot(),
		"--pidfile=" + pidFile,
		// The machine's own /etc/docker/daemon.json must not speak for this one.
		"--config-file=" + filepath.Join(d.dir, "daemon.json"),
		"--bridge=none", "--iptables=false", "--ip6tables=false",
	}, d.flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	within(d.space, cmd)
	proc, err := start(cmd)
	if err != nil {
		return nil, err
	}
	d.proc = proc
	return proc, nil
}

// process returns the running dockerd, nil if there is none.
func (d *daemon) process() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.proc.running() {
		return nil
	}
	return d.proc
}

// end ends dockerd, with SIGTERM first if grace is not 0, and then the containerd it
// started, if that has not gone with it. Containers are dockerd's to end.
func (d *daemon) end(grace time.Duration) error {
	if proc := d.process(); proc != nil && grace > 0 {
		proc.stop(grace)
	} else if proc != nil {
		proc.kill()
	}
	return killEngine(d.execRoot(), false)
}

// clear ends every process of the engine, unmounts what is mounted, and removes
// everything it has.
func (d *daemon) clear() error {
	if err := killEngine(d.execRoot(), true); err != nil {
		return err
	}
	if err := errors.Join(unmountUnder(d.run), unmountUnder(d.dir)); err != nil {
		return err // and remove nothing: it might be reached through a mount
	}
	return errors.Join(os.RemoveAll(d.run), os.RemoveAll(d.dir))
}

// tail returns the end of dockerd's log.
func (d *daemon) tail() string {
	text, err := os.ReadFile(d.log())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), 15)
}

// lastLines returns at most n lines from the end of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
