// Package configs holds the daemon's configuration: its defaults, how it is
// read, and the annotated towline.yaml.
package configs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/sirupsen/logrus"
	"github.com/spf13/viper"
)

// Config is the whole configuration. The tag mapstructure of a field is its key in the
// file. Its environment variable is TOWLINE_SECTION_KEY. The tag default is its default.
// The tags range and oneof are the values that it may have. Numbers in default and range
// may be bytes (KiB, MiB, GiB, TiB) or durations.
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
	Mirror      Mirror     `mapstructure:"mirror"`
	Keep        Keep       `mapstructure:"keep"`
	Fleet       Fleet      `mapstructure:"fleet"`
	Log         Log        `mapstructure:"log"`
}

// Engine says where the engine is. Empty fields follow Docker's own rules.
type Engine struct {
	Host       string `mapstructure:"host"`
	APIVersion string `mapstructure:"api_version"`
}

// Pull holds the limits of pulls, and the defaults of requests.
type Pull struct {
	Concurrency         int           `mapstructure:"concurrency" default:"8" range:"1..1000"`  // transfers at a time
	PerRegistry         int           `mapstructure:"per_registry" default:"6" range:"1..1000"` // the same, of one registry
	Policy              string        `mapstructure:"policy" default:"missing" oneof:"always, missing, never, newer"`
	Retries             int           `mapstructure:"retries" default:"6" range:"0..20"`
	Timeout             time.Duration `mapstructure:"timeout" default:"30m" range:"1s..24h"` // of a whole job
	FirstByteTimeout    time.Duration `mapstructure:"first_byte_timeout" default:"1m" range:"1s..24h"`
	StallTimeout        time.Duration `mapstructure:"stall_timeout" default:"1m" range:"1s..24h"`
	ExtractStallTimeout time.Duration `mapstructure:"extract_stall_timeout" default:"10m" range:"1s..24h"`
}

// Runs says whether programs may be run, and how many at a time.
type Runs struct {
	Enabled     bool  `mapstructure:"enabled" default:"true"`
	Concurrency int   `mapstructure:"concurrency" default:"16" range:"1..1000"`   // containers
	Output      int64 `mapstructure:"output" default:"64MiB" range:"1MiB..16GiB"` // bytes kept of the output of one
	// OutputTotal is how many bytes are kept of the output of all.
	OutputTotal int64 `mapstructure:"output_total" default:"4GiB" range:"1MiB..16TiB"`
}

// Jobs says how long jobs are kept after their end.
type Jobs struct {
	KeepFor time.Duration `mapstructure:"keep_for" default:"720h" range:"1m..87600h"`
	Keep    int           `mapstructure:"keep" default:"100000" range:"1..10000000"` // jobs at most
	// KeepBytes is how many bytes their records may have together.
	KeepBytes int64 `mapstructure:"keep_bytes" default:"512MiB" range:"16MiB..64GiB"`
}

// Limits bound what one caller may use.
type Limits struct {
	Connections int `mapstructure:"connections" default:"16384" range:"1..1000000"` // at a time, of each address in listen
	Requests    int `mapstructure:"requests" default:"500" range:"1..1000000"`      // a second, of each caller over TCP
	Jobs        int `mapstructure:"jobs" default:"16000" range:"1..20000"`          // queued or active, of each caller
	JobBytes    int `mapstructure:"job_bytes" default:"32MiB" range:"2MiB..128MiB"` // of the requests of those jobs
}

// Log says what is logged, and how.
type Log struct {
	Level  string `mapstructure:"level" default:"info"`
	Format string `mapstructure:"format" default:"text" oneof:"text, json"`
}

// File is the path of the configuration if none is named.
const File = "/etc/towline/towline.yaml"

// Default returns the configuration if nothing is set. For a user other than root,
// the socket and the state are in the user's own directories.
func Default() Config {
	c := Config{Listen: []string{"unix://" + SocketPath()}, StateDir: stateDir()}
	for _, k := range settings(&c) {
		k.setDefault()
	}
	return c
}

// SocketPath returns the path of the socket at which a daemon of this user listens by
// default.
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

// clientVariables are the TOWLINE_ variables that the command line reads.
var clientVariables = []string{"TOWLINE_HOST", "TOWLINE_TOKEN", "TOWLINE_TLSCACERT", "TOWLINE_TLSCERT", "TOWLINE_TLSKEY"}

// Load reads the file. The environment overrides it. If file is "", File is read if it
// exists. The error is an *Error.
func Load(file string) (Config, error) {
	c, err := load(file)
	if err == nil {
		return c, nil
	}
	if err = Locate(file, oneLine(err)); errors.As(err, new(*Error)) {
		return Config{}, err
	}
	return Config{}, &Error{err.Error()}
}

func load(file string) (Config, error) {
	v := viper.New()
	v.SetEnvPrefix("towline")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	fallback := Default()
	defaults := make(map[string]any)
	for _, k := range settings(&fallback) {
		defaults[k.key] = k.value.Interface()
		// So that the environment is read for it. viper forgets a mapping without keys.
		if _, mapping := defaults[k.key].(map[string]string); mapping {
			v.SetDefault(k.key, "")
		} else {
			v.SetDefault(k.key, defaults[k.key])
		}
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
		return Config{}, fmt.Errorf("configuration %s: %w", file, err)
	}
	v.SetConfigType("yaml")
	if err = v.ReadConfig(bytes.NewReader(content)); err != nil {
		return Config{}, fmt.Errorf("configuration %s%s", file, syntaxFault(err))
	}
	if err := checkWritten(content, defaults); err != nil { // viper has refused aliases that contain themselves
		return Config{}, fmt.Errorf("configuration %s, %w", file, err)
	}
	if err := checkTypes(v); err != nil {
		return Config{}, err
	}
	var c Config
	if err := v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","), sizeHook, percentHook, labelsHook,
	))); err != nil {
		return Config{}, decodingFault(err)
	}
	return c, c.Validate()
}

// checkEnvironment refuses TOWLINE_ variables that would be ignored: one that is not
// known, and an empty one whose key restricts callers. Any other empty variable counts
// as not set.
func checkEnvironment(v *viper.Viper) error {
	known := make(map[string]string) // keys by variable
	for _, name := range clientVariables {
		known[name] = ""
	}
	for _, key := range v.AllKeys() {
		known[variableOf(key)] = key
	}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		key, ok := known[name]
		switch {
		case !strings.HasPrefix(name, "TOWLINE_"):
		case !ok:
			return fmt.Errorf("environment: %s is not a variable of Towline; correct its name, or do not set it", name)
		case value == "" && narrows(key):
			return fmt.Errorf("environment: %s is empty; give it a value, or do not set it", name)
		}
	}
	return nil
}

// checkTypes refuses values that decoding would convert to the type of their key:
// it reads 1.5 and true as 1. YAML reads 1.50 without quotes as 1.5.
func checkTypes(v *viper.Viper) error {
	for _, k := range settings(new(Config)) {
		value := v.Get(k.key)
		if fault := k.checkForm(value); fault != "" {
			return fmt.Errorf("%s: %v %s", k.key, quoted(value), fault)
		}
	}
	if value, ok := v.Get("engine.api_version").(float64); ok {
		return fmt.Errorf("engine.api_version: %v is read as a number; write the version in quotes", value)
	}
	return nil
}

// quoted writes a value in a message: a text in quotes, and not too much of it.
func quoted(value any) string {
	if s, ok := value.(string); ok {
		value = strconv.Quote(s)
	}
	text := fmt.Sprint(value)
	if r := []rune(text); len(r) > 100 {
		text = string(r[:100]) + "…"
	}
	return text
}

var apiVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)

// Validate returns the first fault, with its key.
func (c Config) Validate() error {
	for _, check := range []func() error{c.checkListen, c.Auth.check, c.Mirror.check, c.Keep.check, c.Fleet.check} {
		if err := check(); err != nil {
			return err
		}
	}
	if !filepath.IsAbs(c.StateDir) {
		return fmt.Errorf("state_dir: %q is not an absolute path", c.StateDir)
	}
	if dir := c.Registries.Certificates; dir != "" && !filepath.IsAbs(dir) {
		return fmt.Errorf("registries.certificates: %q is not an absolute path", dir)
	}
	if v := c.Engine.APIVersion; v != "" && !apiVersion.MatchString(v) {
		return fmt.Errorf("engine.api_version: %q is not a version of the engine's API, such as \"1.41\"; empty, it is negotiated", v)
	}
	for _, k := range settings(&c) {
		if err := k.check(); err != nil {
			return err
		}
	}
	if _, err := logrus.ParseLevel(c.Log.Level); err != nil {
		return fmt.Errorf("log.level: %q is not known; use error, warn, info, debug or trace", c.Log.Level)
	}
	return nil
}

// oneLine writes an error in one line.
func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

// decodingFault returns the first fault of a decoding, with its key first.
func decodingFault(err error) error {
	first := strings.TrimPrefix(err.Error(), "decoding failed due to the following error(s):")
	first, _, _ = strings.Cut(strings.TrimSpace(first), "\n")
	key, fault, ok := strings.Cut(strings.TrimPrefix(first, "'"), "' ")
	if !ok {
		return errors.New(first)
	}
	if names, ok := strings.CutPrefix(fault, "has invalid keys: "); ok {
		fault = "there is no key " + names
	}
	if _, ok := strings.CutPrefix(fault, "expected a map or struct, got "); ok {
		fault = "it has keys of its own; write {KEY: VALUE, …}"
	}
	return fmt.Errorf("%s: %s", key, fault)
}
