// Package configs holds the daemon's configuration: its defaults, how it is
// read, and the annotated towline.yaml.
package configs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/viper"
)

// Config is the whole configuration. The key of a field in the file is its
// tag, in the environment TOWLINE_SECTION_KEY.
type Config struct {
	Listen []string `mapstructure:"listen"` // unix:///PATH, tcp://HOST:PORT or Activated
	// SocketGroup is the group, by name or number, that may use the unix
	// sockets; empty for the daemon's own.
	SocketGroup string     `mapstructure:"socket_group"`
	StateDir    string     `mapstructure:"state_dir"`
	Engine      Engine     `mapstructure:"engine"`
	Pull        Pull       `mapstructure:"pull"`
	Runs        Runs       `mapstructure:"runs"`
	Jobs        Jobs       `mapstructure:"jobs"`
	Auth        Auth       `mapstructure:"auth"`
	Rules       Rules      `mapstructure:"rules"`
	Registries  Registries `mapstructure:"registries"`
	Limits      Limits     `mapstructure:"limits"`
	Log         Log        `mapstructure:"log"`
}

// Engine says where the engine is. Empty fields follow Docker's own rules.
type Engine struct {
	Host       string `mapstructure:"host"`
	APIVersion string `mapstructure:"api_version"`
}

// Pull holds the limits of pulls, and the defaults of requests.
type Pull struct {
	Concurrency         int           `mapstructure:"concurrency"`  // transfers at a time
	PerRegistry         int           `mapstructure:"per_registry"` // the same, of one registry
	Policy              string        `mapstructure:"policy"`
	Retries             int           `mapstructure:"retries"`
	Timeout             time.Duration `mapstructure:"timeout"` // of a whole job
	FirstByteTimeout    time.Duration `mapstructure:"first_byte_timeout"`
	StallTimeout        time.Duration `mapstructure:"stall_timeout"`
	ExtractStallTimeout time.Duration `mapstructure:"extract_stall_timeout"`
}

// Runs says whether programs may be run, and how many at a time.
type Runs struct {
	Enabled     bool  `mapstructure:"enabled"`
	Concurrency int   `mapstructure:"concurrency"` // containers
	Output      int64 `mapstructure:"output"`      // bytes kept of what one prints
	// OutputTotal is how many bytes are kept of what all have printed.
	OutputTotal int64 `mapstructure:"output_total"`
}

// Jobs says how long jobs are kept after their end.
type Jobs struct {
	KeepFor time.Duration `mapstructure:"keep_for"`
	Keep    int           `mapstructure:"keep"` // so many at most
	// KeepBytes is how many bytes their records have at most.
	KeepBytes int64 `mapstructure:"keep_bytes"`
}

// Limits bound what one caller takes from others.
type Limits struct {
	Connections int `mapstructure:"connections"` // at a time, of each address in listen
	Requests    int `mapstructure:"requests"`    // a second, of each caller over TCP
	Jobs        int `mapstructure:"jobs"`        // queued or active, of each caller
	JobBytes    int `mapstructure:"job_bytes"`   // that their requests have
}

// Log says what is logged, and how.
type Log struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"` // text or json
}

// File is where the configuration is when nobody says otherwise.
const File = "/etc/towline/towline.yaml"

// Default returns the configuration where nothing is set. Started by someone
// other than root, socket and state are in that user's own directories.
func Default() Config {
	return Config{
		Listen:   []string{"unix://" + SocketPath()},
		StateDir: stateDir(),
		Pull: Pull{
			Concurrency: 8, PerRegistry: 6, Policy: "missing", Retries: 3, Timeout: 30 * time.Minute,
			FirstByteTimeout: time.Minute, StallTimeout: time.Minute, ExtractStallTimeout: 10 * time.Minute,
		},
		Runs:       Runs{Enabled: true, Concurrency: 16, Output: 64 << 20, OutputTotal: 4 << 30},
		Jobs:       Jobs{KeepFor: 30 * 24 * time.Hour, Keep: 100_000, KeepBytes: 512 << 20},
		Auth:       Auth{Hosts: []string{}},
		Rules:      Rules{Pull: noRules(), Run: noRules()},
		Registries: Registries{AllowPrivate: []string{}, Insecure: []string{}, Certificates: "/etc/docker/certs.d", DockerConfig: true},
		Limits:     Limits{Connections: 16_384, Requests: 500, Jobs: 16_000, JobBytes: 32 << 20},
		Log:        Log{Level: "info", Format: "text"},
	}
}

// SocketPath returns where a daemon of this user listens by default.
func SocketPath() string {
	const system = "/run/towline/towline.sock"
	if os.Geteuid() == 0 {
		return system
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "towline", "towline.sock")
	}
	return system
}

// Host returns the address of the daemon that a client of this user calls by
// default: the user's own, or the system's where there is none.
func Host() string {
	path := SocketPath()
	if _, err := os.Stat(path); err != nil {
		path = "/run/towline/towline.sock"
	}
	return "unix://" + path
}

func stateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/towline"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "towline")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "/var/lib/towline"
	}
	return filepath.Join(home, ".local", "state", "towline")
}

// clientVariables are those TOWLINE_ variables that are the command line's.
var clientVariables = []string{"TOWLINE_HOST", "TOWLINE_TOKEN", "TOWLINE_TLSCACERT", "TOWLINE_TLSCERT", "TOWLINE_TLSKEY"}

// Load reads the file, then the environment over it. With no file named, File
// is read if it is there. The error is one line and names the key at fault.
func Load(file string) (Config, error) {
	v := viper.New()
	v.SetEnvPrefix("towline")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	defaults := defaults(Default())
	for key, value := range defaults {
		v.SetDefault(key, value) // every key is looked for in the environment
	}
	if err := checkEnvironment(v); err != nil {
		return Config{}, err
	}
	named := file != ""
	if !named {
		file = File
	}
	content, err := os.ReadFile(file)
	if err != nil && (named || !errors.Is(err, os.ErrNotExist)) {
		return Config{}, oneLine(fmt.Errorf("configuration %s: %w", file, err))
	}
	v.SetConfigType("yaml")
	if err = v.ReadConfig(bytes.NewReader(content)); err == nil {
		err = checkWritten(content, defaults) // after it was seen that no alias has itself in it
	}
	if err != nil {
		return Config{}, oneLine(fmt.Errorf("configuration %s: %w", file, err))
	}
	if err := checkTypes(v); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		return Config{}, oneLine(fmt.Errorf("configuration %s: %w", file, err))
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// defaults returns every key that the environment may set, with its default.
func defaults(c Config) map[string]any {
	return map[string]any{
		"listen": c.Listen, "socket_group": c.SocketGroup, "state_dir": c.StateDir,
		"engine.host": c.Engine.Host, "engine.api_version": c.Engine.APIVersion,
		"pull.concurrency": c.Pull.Concurrency, "pull.per_registry": c.Pull.PerRegistry,
		"pull.policy": c.Pull.Policy, "pull.retries": c.Pull.Retries, "pull.timeout": c.Pull.Timeout,
		"pull.first_byte_timeout": c.Pull.FirstByteTimeout, "pull.stall_timeout": c.Pull.StallTimeout,
		"pull.extract_stall_timeout": c.Pull.ExtractStallTimeout,
		"runs.enabled":               c.Runs.Enabled, "runs.concurrency": c.Runs.Concurrency, "runs.output": c.Runs.Output, "runs.output_total": c.Runs.OutputTotal,
		"jobs.keep_for": c.Jobs.KeepFor, "jobs.keep": c.Jobs.Keep, "jobs.keep_bytes": c.Jobs.KeepBytes,
		"auth.token_file": c.Auth.TokenFile, "auth.hosts": c.Auth.Hosts,
		"auth.verify_image_access": c.Auth.VerifyImageAccess,
		"rules.pull.allow":         c.Rules.Pull.Allow, "rules.pull.deny": c.Rules.Pull.Deny, "rules.pull.require_digest": c.Rules.Pull.RequireDigest,
		"rules.pull.policies": c.Rules.Pull.Policies, "rules.pull.platforms": c.Rules.Pull.Platforms,
		"rules.run.allow": c.Rules.Run.Allow, "rules.run.deny": c.Rules.Run.Deny, "rules.run.require_digest": c.Rules.Run.RequireDigest,
		"rules.run.policies": c.Rules.Run.Policies, "rules.run.platforms": c.Rules.Run.Platforms,
		"registries.allow_private": c.Registries.AllowPrivate, "registries.docker_config": c.Registries.DockerConfig,
		"registries.insecure": c.Registries.Insecure, "registries.certificates": c.Registries.Certificates,
		"auth.tls.cert": c.Auth.TLS.Cert, "auth.tls.key": c.Auth.TLS.Key, "auth.tls.ca": c.Auth.TLS.CA,
		"limits.connections": c.Limits.Connections, "limits.requests": c.Limits.Requests, "limits.jobs": c.Limits.Jobs, "limits.job_bytes": c.Limits.JobBytes,
		"log.level": c.Log.Level, "log.format": c.Log.Format,
	}
}

// checkEnvironment refuses TOWLINE_ variables that set nothing, which would
// otherwise be passed over: a mistyped one, and an empty one that is to narrow
// something. Another one that is empty is not set.
func checkEnvironment(v *viper.Viper) error {
	known := make(map[string]string) // keys by variable
	for _, name := range clientVariables {
		known[name] = ""
	}
	for _, key := range v.AllKeys() {
		known["TOWLINE_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = key
	}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		key, ok := known[name]
		switch {
		case !strings.HasPrefix(name, "TOWLINE_"):
		case !ok:
			return fmt.Errorf("environment: %s sets nothing that towline knows", name)
		case value == "" && narrows(key):
			return fmt.Errorf("environment: %s is empty; give it a value, or do not set it", name)
		}
	}
	return nil
}

// checkTypes refuses values that decoding would bend into their key's type:
// it takes 1.5 and true for 1, and YAML reads 1.50 without quotes as 1.5.
func checkTypes(v *viper.Viper) error {
	for _, key := range []string{"pull.concurrency", "pull.per_registry", "pull.retries", "jobs.keep", "jobs.keep_bytes", "runs.concurrency", "runs.output", "runs.output_total", "limits.connections", "limits.requests", "limits.jobs", "limits.job_bytes"} {
		switch value := v.Get(key).(type) {
		case float64, bool:
			return fmt.Errorf("%s: %v is not a whole number", key, value)
		}
	}
	if value, ok := v.Get("engine.api_version").(float64); ok {
		return fmt.Errorf("engine.api_version: %v is read as a number; write the version in quotes", value)
	}
	return nil
}

// Bounds of what the store of jobs is asked to keep.
const (
	mostJobs    = 10_000_000
	longestKeep = 10 * 365 * 24 * time.Hour
	leastKept   = 16 << 20 // bytes
	mostKept    = 64 << 30
)

// Bounds of what is kept of a run's output, in bytes.
const (
	leastOutput = 1 << 20
	mostOutput  = 16 << 30
	mostTotal   = 16 << 40
)

// Validate returns the first fault, with its key.
func (c Config) Validate() error {
	for _, check := range []func() error{c.checkListen, c.Auth.check, c.Limits.check} {
		if err := check(); err != nil {
			return err
		}
	}
	switch p := c.Pull; {
	case !filepath.IsAbs(c.StateDir):
		return fmt.Errorf("state_dir: %q is not an absolute path", c.StateDir)
	case p.Concurrency < 1 || p.Concurrency > 1000:
		return fmt.Errorf("pull.concurrency: %d is not between 1 and 1000", p.Concurrency)
	case p.PerRegistry < 1 || p.PerRegistry > 1000:
		return fmt.Errorf("pull.per_registry: %d is not between 1 and 1000", p.PerRegistry)
	case !slices.Contains([]string{"always", "missing", "never", "newer"}, p.Policy):
		return fmt.Errorf("pull.policy: %q is not known; use always, missing, never or newer", p.Policy)
	case p.Retries < 0 || p.Retries > 20:
		return fmt.Errorf("pull.retries: %d is not between 0 and 20", p.Retries)
	case c.Runs.Concurrency < 1 || c.Runs.Concurrency > 1000:
		return fmt.Errorf("runs.concurrency: %d is not between 1 and 1000", c.Runs.Concurrency)
	case c.Runs.Output < leastOutput || c.Runs.Output > mostOutput:
		return fmt.Errorf("runs.output: %d is not between %d and %d bytes", c.Runs.Output, leastOutput, mostOutput)
	case c.Runs.OutputTotal < leastOutput || c.Runs.OutputTotal > mostTotal:
		return fmt.Errorf("runs.output_total: %d is not between %d and %d bytes", c.Runs.OutputTotal, leastOutput, int64(mostTotal))
	case c.Jobs.Keep < 1 || c.Jobs.Keep > mostJobs:
		return fmt.Errorf("jobs.keep: %d is not between 1 and %d", c.Jobs.Keep, mostJobs)
	case c.Jobs.KeepBytes < leastKept || c.Jobs.KeepBytes > mostKept:
		return fmt.Errorf("jobs.keep_bytes: %d is not between %d and %d bytes", c.Jobs.KeepBytes, int64(leastKept), int64(mostKept))
	case c.Jobs.KeepFor < time.Minute || c.Jobs.KeepFor > longestKeep:
		return fmt.Errorf("jobs.keep_for: %s is not between 1m and %s; write a duration with its unit, such as 720h", c.Jobs.KeepFor, longestKeep)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"timeout", c.Pull.Timeout}, {"first_byte_timeout", c.Pull.FirstByteTimeout},
		{"stall_timeout", c.Pull.StallTimeout}, {"extract_stall_timeout", c.Pull.ExtractStallTimeout},
	} {
		// A bare number is read as nanoseconds; nobody means those.
		if d.value < time.Second || d.value > 24*time.Hour {
			return fmt.Errorf("pull.%s: %s is not between 1s and 24h; write a duration with its unit, such as 90s or 30m", d.key, d.value)
		}
	}
	if _, err := logrus.ParseLevel(c.Log.Level); err != nil {
		return fmt.Errorf("log.level: %q is not known; use error, warn, info, debug or trace", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return fmt.Errorf("log.format: %q is not known; use text or json", c.Log.Format)
	}
	return nil
}

// oneLine flattens the lists that libraries make of several faults.
func oneLine(err error) error {
	s := strings.Join(strings.Fields(err.Error()), " ")
	s = strings.Replace(s, "decoding failed due to the following error(s): ", "", 1)
	return errors.New(strings.ReplaceAll(s, "'' has invalid keys:", "there is no key"))
}
