package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TowlineOptions are what one Towline daemon is started with.
type TowlineOptions struct {
	// EngineHost is the engine it drives, as in [Engine.Host]. Empty: its own default.
	EngineHost string
	// Listen are addresses to listen on besides the socket ("tcp://127.0.0.1:2080").
	Listen []string
	// Config is more YAML for its configuration file. It may have any section but
	// listen, state_dir and engine, which are written for it. Without a section mirror
	// there is no accelerator.
	Config string
	// Env is added to the environment, from which TOWLINE_… and DOCKER_HOST are taken.
	Env []string
	// EngineDown says that the engine may not answer: the start then waits for
	// /healthz, instead of /readyz.
	EngineDown bool
	// Namespace is the path of the network namespace that it runs in, "" for this
	// process's own.
	Namespace string
}

// Towline is a running Towline daemon.
type Towline struct {
	// Host is its address, "unix:///…/towline.sock".
	Host string
	// Pid is its process id.
	Pid int

	proc   *process
	client *http.Client
	log    string
}

// StartTowline starts the towline binary bin and waits until it is ready, or ctx ends.
// Its socket, configuration, log and state lie in dir; one started there later, after
// Stop or Kill, finds the same state. dir must be short enough for a socket's path.
// If it does not become ready it is ended, and the error has the end of its log.
func StartTowline(ctx context.Context, bin, dir string, opts TowlineOptions) (*Towline, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lab: towline: %w", err)
	}
	socket := filepath.Join(dir, "towline.sock")
	if len(socket) > socketPathMax {
		return nil, fmt.Errorf("lab: towline: %s is too long for a socket", socket)
	}
	config := filepath.Join(dir, "towline.yaml")
	if err := os.WriteFile(config, []byte(opts.yaml(dir, "unix://"+socket)), 0o600); err != nil {
		return nil, fmt.Errorf("lab: towline: %w", err)
	}
	logPath := filepath.Join(dir, "towline.log")
	log, err := os.Create(logPath)
	if err != nil {
		return nil, fmt.Errorf("lab: towline: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(bin, "serve", "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TOWLINE_") || strings.HasPrefix(v, "DOCKER_HOST=")
	}), "TOWLINE_REGISTRIES_ALLOW_PRIVATE=127.0.0.0/8") // where the lab's registries are
	cmd.Env = append(cmd.Env, opts.Env...)
	within(opts.Namespace, cmd)
	proc, err := start(cmd)
	if err != nil {
		return nil, fmt.Errorf("lab: towline: %w", err)
	}
	t := &Towline{Host: "unix://" + socket, Pid: cmd.Process.Pid, proc: proc, client: socketClient("unix", socket), log: logPath}
	path := "/readyz"
	if opts.EngineDown {
		path = "/healthz"
	}
	if err := proc.ready(ctx, func(ctx context.Context) error { return t.get(ctx, path) }); err != nil {
		proc.kill()
		return nil, fmt.Errorf("lab: towline: %w\n%s", err, lastLines(t.Log(), 15))
	}
	return t, nil
}

// yaml writes the configuration. Strings are quoted as Go does, which YAML reads.
func (o TowlineOptions) yaml(dir, address string) string {
	var b strings.Builder
	b.WriteString("listen:\n")
	for _, a := range append([]string{address}, o.Listen...) {
		fmt.Fprintf(&b, "  - %q\n", a)
	}
	fmt.Fprintf(&b, "state_dir: %q\n", filepath.Join(dir, "state"))
	if o.EngineHost != "" {
		fmt.Fprintf(&b, "engine: {host: %q}\n", o.EngineHost)
	}
	if !strings.Contains(o.Config, "mirror:") {
		b.WriteString("mirror: {mode: none}\n") // it has the engine pull the image of a trial
	}
	b.WriteString(o.Config)
	return b.String()
}

func (t *Towline) get(ctx context.Context, path string) error {
	resp, err := t.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return nil
}

// Do sends one request to the daemon, on a connection of its own, and returns its
// answer as it is, whatever the status; the caller closes the body. target is path
// and query; header and body may be nil.
func (t *Towline) Do(ctx context.Context, method, target string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://towline"+target, body)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	return t.client.Do(req)
}

// Metric returns the value of a metric without labels, as GET /metrics has it.
func (t *Towline) Metric(ctx context.Context, name string) (float64, error) {
	resp, err := t.Do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("lab: towline has no metric %s", name), lines.Err())
}

// Log returns what the daemon wrote so far, to stderr and stdout.
func (t *Towline) Log() string {
	text, err := os.ReadFile(t.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop asks the daemon to end (SIGTERM), kills it after 30 s, and returns how it
// ended: nil for exit code 0. Calling it again gives the same answer.
func (t *Towline) Stop() error { return t.proc.stop(30 * time.Second) }

// Kill ends the daemon at once (SIGKILL), and returns when it is gone.
func (t *Towline) Kill() { t.proc.kill() }
