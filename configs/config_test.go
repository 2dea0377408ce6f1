package configs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/configs"
)

// file writes a configuration and returns its path.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "towline.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clean unsets all TOWLINE_ variables for a test.
func clean(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "TOWLINE_") {
			t.Setenv(name, "") // so that it is set again at the end
			os.Unsetenv(name)
		}
	}
}

// asRoot is the default configuration where root starts the daemon.
func asRoot() configs.Config {
	c := configs.Default()
	c.Listen, c.StateDir = []string{"unix:///run/towline/towline.sock"}, "/var/lib/towline"
	return c
}

func TestAnnotatedFile(t *testing.T) {
	clean(t)
	c, err := configs.Load("towline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := asRoot(); !reflect.DeepEqual(c, want) {
		t.Errorf("the file holds\n%+v, the defaults are\n%+v", c, want)
	}
	want := configs.Pull{
		Concurrency: 8, PerRegistry: 6, Policy: "missing", Retries: 6, Timeout: 30 * time.Minute,
		FirstByteTimeout: time.Minute, StallTimeout: time.Minute, ExtractStallTimeout: 10 * time.Minute,
	}
	if c.Pull != want || c.Log != (configs.Log{Level: "info", Format: "text"}) || c.Engine != (configs.Engine{}) {
		t.Errorf("the defaults are not those of the contract: %+v", c)
	}
}

func TestEmptyFile(t *testing.T) {
	clean(t)
	for _, content := range []string{"", "# nothing\n", "pull:\n", "pull: {}\nlog:\nengine:\nauth:\n", "auth: {token_file: \"\", tls: {cert: \"\"}}"} {
		if c, err := configs.Load(file(t, content)); err != nil || !reflect.DeepEqual(c, configs.Default()) {
			t.Errorf("%q: %+v, %v", content, c, err)
		}
	}
}

// keys has each key with a value that is not its default.
var keys = []struct {
	key, value string
	field      func(c *configs.Config) any
	want       any
}{
	{"listen", "unix:///a.sock", func(c *configs.Config) any { return c.Listen }, []string{"unix:///a.sock"}},
	{"listen", "unix:///a.sock,unix:///b.sock", func(c *configs.Config) any { return c.Listen }, []string{"unix:///a.sock", "unix:///b.sock"}},
	{"state_dir", "/elsewhere", func(c *configs.Config) any { return c.StateDir }, "/elsewhere"},
	{"engine.host", "tcp://engine:2376", func(c *configs.Config) any { return c.Engine.Host }, "tcp://engine:2376"},
	{"engine.api_version", "1.41", func(c *configs.Config) any { return c.Engine.APIVersion }, "1.41"},
	{"engine.api_version", "1.50", func(c *configs.Config) any { return c.Engine.APIVersion }, "1.50"},
	{"pull.concurrency", "20", func(c *configs.Config) any { return c.Pull.Concurrency }, 20},
	{"pull.per_registry", "2", func(c *configs.Config) any { return c.Pull.PerRegistry }, 2},
	{"pull.policy", "always", func(c *configs.Config) any { return c.Pull.Policy }, "always"},
	{"pull.retries", "0", func(c *configs.Config) any { return c.Pull.Retries }, 0},
	{"pull.timeout", "1h30m", func(c *configs.Config) any { return c.Pull.Timeout }, 90 * time.Minute},
	{"jobs.keep_for", "24h", func(c *configs.Config) any { return c.Jobs.KeepFor }, 24 * time.Hour},
	{"runs.enabled", "false", func(c *configs.Config) any { return c.Runs.Enabled }, false},
	{"runs.output", "2000000", func(c *configs.Config) any { return c.Runs.Output }, int64(2000000)},
	{"runs.concurrency", "20", func(c *configs.Config) any { return c.Runs.Concurrency }, 20},
	{"runs.output_total", "3000000", func(c *configs.Config) any { return c.Runs.OutputTotal }, int64(3000000)},
	{"jobs.keep_bytes", "20000000", func(c *configs.Config) any { return c.Jobs.KeepBytes }, int64(20000000)},
	{"jobs.keep", "20", func(c *configs.Config) any { return c.Jobs.Keep }, 20},
	{"pull.first_byte_timeout", "5s", func(c *configs.Config) any { return c.Pull.FirstByteTimeout }, 5 * time.Second},
	{"pull.stall_timeout", "6s", func(c *configs.Config) any { return c.Pull.StallTimeout }, 6 * time.Second},
	{"pull.extract_stall_timeout", "7s", func(c *configs.Config) any { return c.Pull.ExtractStallTimeout }, 7 * time.Second},
	{"socket_group", "docker", func(c *configs.Config) any { return c.SocketGroup }, "docker"},
	{"auth.token_file", "/etc/tokens", func(c *configs.Config) any { return c.Auth.TokenFile }, "/etc/tokens"},
	{"auth.hosts", "ci.test,10.0.0.7", func(c *configs.Config) any { return c.Auth.Hosts }, []string{"ci.test", "10.0.0.7"}},
	{"limits.connections", "7", func(c *configs.Config) any { return c.Limits.Connections }, 7},
	{"limits.requests", "8", func(c *configs.Config) any { return c.Limits.Requests }, 8},
	{"limits.job_bytes", "3000000", func(c *configs.Config) any { return c.Limits.JobBytes }, 3000000},
	{"limits.jobs", "9", func(c *configs.Config) any { return c.Limits.Jobs }, 9},
	{"auth.verify_image_access", "true", func(c *configs.Config) any { return c.Auth.VerifyImageAccess }, true},
	{"rules.pull.allow", "docker.io/library/*,ghcr.io/**", func(c *configs.Config) any { return c.Rules.Pull.Allow }, []string{"docker.io/library/*", "ghcr.io/**"}},
	{"rules.pull.deny", "docker.io/**", func(c *configs.Config) any { return c.Rules.Pull.Deny }, []string{"docker.io/**"}},
	{"rules.pull.require_digest", "true", func(c *configs.Config) any { return c.Rules.Pull.RequireDigest }, true},
	{"rules.pull.policies", "never,missing", func(c *configs.Config) any { return c.Rules.Pull.Policies }, []string{"never", "missing"}},
	{"rules.pull.platforms", "linux/amd64", func(c *configs.Config) any { return c.Rules.Pull.Platforms }, []string{"linux/amd64"}},
	{"rules.run.allow", "docker.io/a/*", func(c *configs.Config) any { return c.Rules.Run.Allow }, []string{"docker.io/a/*"}},
	{"rules.run.deny", "docker.io/b/*", func(c *configs.Config) any { return c.Rules.Run.Deny }, []string{"docker.io/b/*"}},
	{"rules.run.require_digest", "true", func(c *configs.Config) any { return c.Rules.Run.RequireDigest }, true},
	{"rules.run.policies", "never", func(c *configs.Config) any { return c.Rules.Run.Policies }, []string{"never"}},
	{"rules.run.platforms", "default", func(c *configs.Config) any { return c.Rules.Run.Platforms }, []string{"default"}},
	{"registries.allow_private", "10.0.0.0/8,registry.test", func(c *configs.Config) any { return c.Registries.AllowPrivate }, []string{"10.0.0.0/8", "registry.test"}},
	{"registries.insecure", "10.0.0.0/8,registry.test:5000", func(c *configs.Config) any { return c.Registries.Insecure }, []string{"10.0.0.0/8", "registry.test:5000"}},
	{"registries.certificates", "/c", func(c *configs.Config) any { return c.Registries.Certificates }, "/c"},
	{"registries.docker_config", "false", func(c *configs.Config) any { return c.Registries.DockerConfig }, false},
	{"mirror.mode", "none", func(c *configs.Config) any { return c.Mirror.Mode }, "none"},
	{"mirror.listen", "127.0.0.1:7080", func(c *configs.Config) any { return c.Mirror.Listen }, "127.0.0.1:7080"},
	{"mirror.hosts_dir", "/etc/docker/certs.d", func(c *configs.Config) any { return c.Mirror.HostsDir }, "/etc/docker/certs.d"},
	{"mirror.pull_through", "true", func(c *configs.Config) any { return c.Mirror.PullThrough }, true},
	{"mirror.connections", "20", func(c *configs.Config) any { return c.Mirror.Connections }, 20},
	{"mirror.per_registry", "10", func(c *configs.Config) any { return c.Mirror.PerRegistry }, 10},
	{"mirror.chunk", "8MiB", func(c *configs.Config) any { return c.Mirror.Chunk }, int64(8 << 20)},
	{"mirror.rate", "10000000", func(c *configs.Config) any { return c.Mirror.Rate }, int64(10000000)},
	{"mirror.cache", "1GiB", func(c *configs.Config) any { return c.Mirror.Cache }, int64(1 << 30)},
	{"mirror.min_size", "0", func(c *configs.Config) any { return c.Mirror.MinSize }, int64(0)},
	{"keep.collect", "own", func(c *configs.Config) any { return c.Keep.Collect }, "own"},
	{"keep.high", "90%", func(c *configs.Config) any { return c.Keep.High }, configs.Percent(90)},
	{"keep.low", "7%", func(c *configs.Config) any { return c.Keep.Low }, configs.Percent(7)},
	{"keep.reserve", "1GiB", func(c *configs.Config) any { return c.Keep.Reserve }, int64(1 << 30)},
	{"keep.min_age", "10m", func(c *configs.Config) any { return c.Keep.MinAge }, 10 * time.Minute},
	{"keep.max_unused", "720h", func(c *configs.Config) any { return c.Keep.MaxUnused }, 720 * time.Hour},
	{"keep.interval", "1m", func(c *configs.Config) any { return c.Keep.Interval }, time.Minute},
	{"keep.protect", "docker.io/library/*,registry.test/**", func(c *configs.Config) any { return c.Keep.Protect }, []string{"docker.io/library/*", "registry.test/**"}},
	{"keep.learn", "true", func(c *configs.Config) any { return c.Keep.Learn }, true},
	{"keep.learn_for", "24h", func(c *configs.Config) any { return c.Keep.LearnFor }, 24 * time.Hour},
	{"keep.learn_schedule", "0 5 * * *", func(c *configs.Config) any { return c.Keep.LearnSchedule }, "0 5 * * *"},
	{"keep.sets_dir", "/sets", func(c *configs.Config) any { return c.Keep.SetsDir }, "/sets"},
	{"keep.max_per_cycle", "5", func(c *configs.Config) any { return c.Keep.MaxPerCycle }, 5},
	{"fleet.name", "ci", func(c *configs.Config) any { return c.Fleet.Name }, "ci"},
	{"fleet.listen", "127.0.0.1:4222", func(c *configs.Config) any { return c.Fleet.Listen }, "127.0.0.1:4222"},
	{"fleet.creds", "/creds", func(c *configs.Config) any { return c.Fleet.Creds }, "/creds"},
	{"fleet.zone", "eu.1", func(c *configs.Config) any { return c.Fleet.Zone }, "eu.1"},
	{"fleet.peer_listen", "0.0.0.0:7080", func(c *configs.Config) any { return c.Fleet.PeerListen }, "0.0.0.0:7080"},
	{"fleet.upload_rate", "10MiB", func(c *configs.Config) any { return c.Fleet.UploadRate }, int64(10 << 20)},
	{"log.level", "debug", func(c *configs.Config) any { return c.Log.Level }, "debug"},
	{"log.format", "json", func(c *configs.Config) any { return c.Log.Format }, "json"},
}

func variable(key string) string {
	return "TOWLINE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// yaml writes one key.
func yaml(key, value string) string {
	parts := strings.Split(key, ".")
	return strings.Join(parts[:len(parts)-1], ": {") + strings.Repeat(": {", min(1, len(parts)-1)) +
		parts[len(parts)-1] + ": " + value + strings.Repeat("}", len(parts)-1) + "\n"
}

func TestKeys(t *testing.T) {
	clean(t)
	tested := make(map[string]bool)
	for _, k := range keys {
		t.Run(k.key+"/environment", func(t *testing.T) {
			tested[k.key] = true
			path := file(t, "log: {level: warn}\npull: {retries: 9}\n")
			t.Setenv(variable(k.key), k.value)
			c, err := configs.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := k.field(&c); !reflect.DeepEqual(got, k.want) {
				t.Errorf("%s=%s is read as %v", variable(k.key), k.value, got)
			}
		})
		t.Run(k.key+"/file", func(t *testing.T) {
			value := k.value
			if strings.Contains(value, ",") {
				value = "[" + value + "]"
			}
			if k.key == "engine.api_version" {
				value = `"` + value + `"`
			}
			c, err := configs.Load(file(t, yaml(k.key, value)))
			if got := k.field(&c); err != nil || !reflect.DeepEqual(got, k.want) {
				t.Errorf("%s: %s is read as %v, %v", k.key, value, got, err)
			}
		})
	}
	for _, key := range keysOf(reflect.TypeFor[configs.Config](), "") {
		// TestTLS tests the keys of TLS, which need each other. TestCredentials tests
		// the credentials, which have no variable.
		// TestFleet tests those of the fleet that need others.
		if !tested[key] && !strings.HasPrefix(key, "auth.tls.") && key != "registries.credentials" && !slices.Contains([]string{"fleet.labels", "fleet.url", "fleet.embedded"}, key) {
			t.Errorf("%s is not tested", key)
		}
	}
}

// keysOf lists the keys of a configuration's type.
func keysOf(t reflect.Type, prefix string) []string {
	var all []string
	for f := range t.Fields() {
		key := prefix + f.Tag.Get("mapstructure")
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keysOf(f.Type, key+".")...)
		} else {
			all = append(all, key)
		}
	}
	return all
}

func TestBadValues(t *testing.T) {
	clean(t)
	for _, row := range []struct{ name, file, variable, value string }{
		{"concurency", "pull: {concurency: 4}", "", ""},
		{"nope", "auth: {tls: {nope: x}}", "", ""},
		{"concurency", "pull: {concurency: 4, polcy: x}\nlgo: {}", "", ""},
		{"TOWLINE_PULL_CONCURENCY", "", "TOWLINE_PULL_CONCURENCY", "4"},
		{"TOWLINE_CONFIG", "", "TOWLINE_CONFIG", "/etc/x"},
		{"pull.concurrency", "pull: {concurrency: 0}", "", ""},
		{"jobs.keep", "jobs: {keep: 0}", "", ""},
		{"runs.concurrency", "runs: {concurrency: 0}", "", ""},
		{"runs.output", "runs: {output: 1000}", "", ""},
		{"runs.output_total", "runs: {output_total: 1000}", "", ""},
		{"jobs.keep_bytes", "jobs: {keep_bytes: 1000}", "", ""},
		{"jobs.keep_bytes", "jobs: {keep_bytes: 16777216.5}", "", ""},
		{"limits.job_bytes", "limits: {job_bytes: 1000}", "", ""},
		{"limits.job_bytes", "limits: {job_bytes: 134217729}", "", ""},
		{"runs.enabled", "runs: {enabled: perhaps}", "", ""},
		{"jobs.keep", "jobs: {keep: 1.5}", "", ""},
		{"jobs.keep_for", "jobs: {keep_for: 0s}", "", ""},
		{"jobs.keep_for", "jobs: {keep_for: 30}", "", ""},
		{"jobs.keep_for", "", "TOWLINE_JOBS_KEEP_FOR", "soon"},
		{"pull.concurrency", "pull: {concurrency: many}", "", ""},
		{"pull.concurrency", "pull: {concurrency: 1.5}", "", ""},
		{"pull.concurrency", "pull: {concurrency: true}", "", ""},
		{"pull.concurrency", "pull: {concurrency: [1]}", "", ""},
		{"pull.concurrency", "pull: {concurrency: 99999999999999999999}", "", ""},
		{"pull.concurrency", "", "TOWLINE_PULL_CONCURRENCY", "many"},
		{"pull.concurrency", "", "TOWLINE_PULL_CONCURRENCY", "1001"},
		{"pull.per_registry", "pull: {per_registry: -1}", "", ""},
		{"pull.retries", "pull: {retries: 21}", "", ""},
		{"pull.retries", "pull: {retries: false}", "", ""},
		{"pull.policy", "pull: {policy: sometimes}", "", ""},
		{"pull.policy", "pull: {policy: [always]}", "", ""},
		{"pull.timeout", "pull: {timeout: soon}", "", ""},
		{"pull.timeout", "pull: {timeout: 30}", "", ""},
		{"pull.timeout", "", "TOWLINE_PULL_TIMEOUT", "30"},
		{"pull.timeout", "pull: {timeout: 25h}", "", ""},
		{"pull.timeout", "pull: {timeout: -1m}", "", ""},
		{"pull.stall_timeout", "pull: {stall_timeout: 1ms}", "", ""},
		{"pull.first_byte_timeout", "pull: {first_byte_timeout: 0s}", "", ""},
		{"pull.extract_stall_timeout", "pull: {extract_stall_timeout: {}}", "", ""},
		{"engine.api_version", "engine: {api_version: 1.50}", "", ""}, // YAML's 1.5
		{"engine", "engine: unix:///var/run/docker.sock", "", ""},
		{"state_dir", "state_dir: var", "", ""},
		{"state_dir", `state_dir: ""`, "", ""},
		{"log.level", "log: {level: loud}", "", ""},
		{"log.format", "log: {format: xml}", "", ""},
		{"listen", "listen: []", "", ""},
		{"listen", `listen: [""]`, "", ""},
		{"listen", "listen: {unix: /x}", "", ""},
		{"listen: tcp://127.0.0.1:7777", "listen: [unix:///a.sock, tcp://127.0.0.1:7777]", "", ""},
		{"listen: tcp://0.0.0.0:7777", "", "TOWLINE_LISTEN", "tcp://0.0.0.0:7777"},
		{"listen", "listen: [http://127.0.0.1:7777]", "", ""},
		{"listen", "listen: [/run/towline.sock]", "", ""},
		{"listen", "listen: [unix://run/towline.sock]", "", ""},
		{"listen", "listen: [unix:///" + strings.Repeat("x", 107) + "]", "", ""},
		{"auth.token_file", "listen: [tcp://127.0.0.1:7777]\nauth: {tls: {cert: /c, key: /k}}", "", ""},
		{"listen: tcp://127.0.0.1", "listen: [tcp://127.0.0.1]\nauth: {token_file: /t}", "", ""},
		{"listen: tcp://:7777", "listen: [tcp://:7777]\nauth: {token_file: /t}", "", ""},
		{"listen: tcp://a:0", "listen: [tcp://a:0]\nauth: {token_file: /t}", "", ""},
		{"listen: tcp://a:70000", "listen: [tcp://a:70000]\nauth: {token_file: /t}", "", ""},
		{"listen: tcp://a:1/x", "listen: [tcp://a:1/x]\nauth: {token_file: /t}", "", ""},
		{"listen", "listen: [fd://, fd://]", "", ""},
		{"listen", "listen: [fd://3]", "", ""},
		{"auth.token_file", "auth: {token_file: tokens.yaml}", "", ""},
		{"auth.tls.key", "auth: {tls: {cert: /c.pem}}", "", ""},
		{"auth.tls.cert", "auth: {tls: {key: /k.pem}}", "", ""},
		{"auth.tls.cert", "", "TOWLINE_AUTH_TLS_CA", "/etc/ca.pem"},
		{"auth.tls.ca", "auth: {tls: {cert: /c, key: /k, ca: ca.pem}}", "", ""},
		{"auth.hosts", "auth: {hosts: [\"http://ci.test\"]}", "", ""},
		{"auth.hosts", "auth: {hosts: [\"ci.test:80\"]}", "", ""},
		{"auth.hosts", "auth: {hosts: [\"*\"]}", "", ""},
		{"limits.connections", "limits: {connections: 0}", "", ""},
		{"limits.requests", "limits: {requests: 1.5}", "", ""},
		{"limits.jobs", "limits: {jobs: 20001}", "", ""},
		{"keep.collect", "keep: {collect: some}", "", ""},
		{"keep.high", "keep: {high: 85}", "", ""},
		{"keep.high", "keep: {high: 0.85}", "", ""},
		{"keep.high", "keep: {high: 0%}", "", ""},
		{"keep.high", "keep: {high: 101%}", "", ""},
		{"keep.high", "keep: {high: [85%]}", "", ""},
		{"keep.high", "", "TOWLINE_KEEP_HIGH", "most"},
		{"keep.low: 85% is above keep.high, which is 80%", "keep: {high: 80%, low: 85%}", "", ""},
		{"keep.low: 80% is above keep.high, which is 50%", "keep: {high: 50%}", "", ""},
		{"keep.reserve", "keep: {reserve: -1}", "", ""},
		{"keep.max_unused: 10m0s is less than keep.min_age", "keep: {max_unused: 10m}", "", ""},
		{"keep.protect", "keep: {protect: alpine}", "", ""},
		{"keep.sets_dir", "keep: {sets_dir: sets.d}", "", ""},
		{"keep.protect", "keep: {protect: [docker.io/alpine]}", "", ""},
		{"keep.protect", "keep: {protect: [Docker.io/Library/Alpine]}", "", ""},
		{"keep.protect", "keep: {protect: }", "", ""},
		{"fleet.name", "fleet: {url: nats://a}", "", ""},
		{"fleet.name", "fleet: {url: nats://a, name: a.b}", "", ""},
		{"fleet.url", "fleet: {url: http://a, name: ci}", "", ""},
		{"fleet.url", "fleet: {url: \"nats://a,b\", name: ci}", "", ""},
		{"fleet.url", "fleet: {url: nats://a:b@c, name: ci}", "", ""},
		{"fleet.creds", "fleet: {creds: /creds, name: ci, embedded: true, listen: 127.0.0.1:1}", "", ""},
		{"fleet.name", "fleet: {creds: /creds, name: a.b}", "", ""},
		{"fleet.listen: missing", "fleet: {embedded: true, name: ci}", "", ""},
		{"fleet.listen", "fleet: {embedded: true, name: ci, listen: somewhere}", "", ""},
		{"fleet.listen", "fleet: {url: nats://a, name: ci, listen: 127.0.0.1:1}", "", ""},
		{"fleet.peer_listen", "fleet: {url: nats://a, name: ci, peer_listen: 127.0.0.1}", "", ""},
		{"fleet.creds", "fleet: {url: nats://a, name: ci, creds: c}", "", ""},
		{"fleet.zone", "fleet: {url: nats://a, name: ci, zone: a b}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {host: x}}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {role: a b}}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {Role: a}}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {a.b: a}}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {a: [b]}}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {a: 1.50}}", "", ""},
		{"fleet.labels", "fleet: {url: nats://a, name: ci, labels: {a: }}", "", ""},
		{"fleet.labels", "fleet: {labels: [a]}", "", ""},
		{"fleet.labels", "", "TOWLINE_FLEET_LABELS", "role"},
		{"fleet.labels", "", "TOWLINE_FLEET_LABELS", "a=b,a=c"},
		{"fleet.upload_rate", "fleet: {upload_rate: -1}", "", ""},
		{"towline.yaml", "pull: {", "", ""},
		{"towline.yaml", "- pull", "", ""},
		{"towline.yaml", "pull: {retries: 1}\npull: {retries: 2}", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.variable != "" {
				t.Setenv(row.variable, row.value)
			}
			c, err := configs.Load(file(t, row.file))
			switch {
			case err == nil:
				t.Errorf("%q, %s=%s: accepted as %+v", row.file, row.variable, row.value, c)
			case !strings.Contains(err.Error(), row.name) || strings.ContainsAny(err.Error(), "\n\r"):
				t.Errorf("%q, %s=%s: the error does not name %s in one line: %q", row.file, row.variable, row.value, row.name, err)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	clean(t)
	path := filepath.Join(t.TempDir(), "nope.yaml")
	if _, err := configs.Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a named file that is not there: %v", err)
	}
	if _, err := os.Stat(configs.File); err == nil {
		t.Logf("%s is there: its absence is not tested", configs.File)
		return
	}
	if c, err := configs.Load(""); err != nil || !reflect.DeepEqual(c, configs.Default()) {
		t.Errorf("without any file: %+v, %v", c, err)
	}
}

func TestFleet(t *testing.T) {
	clean(t)
	const content = "fleet: {name: ci, url: \"nats://a:4222,tls://b\", labels: {role: ci, rack: \"7\"}}"
	want := configs.Default().Fleet
	want.Name, want.URL, want.Labels = "ci", "nats://a:4222,tls://b", map[string]string{"role": "ci", "rack": "7"}
	c, err := configs.Load(file(t, content))
	if err != nil || !reflect.DeepEqual(c.Fleet, want) {
		t.Errorf("%+v, %v", c.Fleet, err)
	}
	t.Setenv("TOWLINE_FLEET_LABELS", "role=build,rack=a=b")
	if c, err = configs.Load(file(t, content)); err == nil || !strings.Contains(err.Error(), "rack") {
		t.Errorf("a bad label of the environment: %+v, %v", c.Fleet, err)
	}
	t.Setenv("TOWLINE_FLEET_LABELS", "role=build")
	want.Labels = map[string]string{"role": "build"}
	if c, err = configs.Load(file(t, content)); err != nil || !reflect.DeepEqual(c.Fleet, want) {
		t.Errorf("with labels of the environment: %+v, %v", c.Fleet, err)
	}
	c, err = configs.Load(file(t, "fleet: {name: ci, embedded: true, listen: \"0.0.0.0:4222\"}"))
	if err != nil || !c.Fleet.Embedded || c.Fleet.Listen != "0.0.0.0:4222" || !c.Fleet.Enabled() || configs.Default().Fleet.Enabled() {
		t.Errorf("%+v, %v", c.Fleet, err)
	}
}

func TestClientVariables(t *testing.T) {
	clean(t)
	t.Setenv("TOWLINE_HOST", "unix:///x.sock")
	t.Setenv("TOWLINE_TOKEN", "x")
	t.Setenv("TOWLINE_PULL_RETRIES", "") // empty counts as not set
	if c, err := configs.Load(file(t, "")); err != nil || !reflect.DeepEqual(c, configs.Default()) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestDefaultPaths(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv("XDG_STATE_HOME", "/home/ada/state")
	c := configs.Default()
	want := asRoot()
	if os.Geteuid() != 0 {
		want.Listen, want.StateDir = []string{"unix:///run/user/7/towline/towline.sock"}, "/home/ada/state/towline"
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the defaults are %+v", c)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "/home/ada")
	if os.Geteuid() != 0 {
		want.Listen, want.StateDir = asRoot().Listen, "/home/ada/.local/state/towline"
	}
	if c := configs.Default(); !reflect.DeepEqual(c, want) {
		t.Errorf("without XDG directories the defaults are %+v", c)
	}
}

func TestTLS(t *testing.T) {
	clean(t)
	t.Setenv("TOWLINE_AUTH_TLS_KEY", "/k")
	c, err := configs.Load(file(t, "listen: [tcp://0.0.0.0:7777, \"fd://\"]\nauth: {tls: {cert: /c, ca: /ca}}"))
	if want := (configs.TLS{Cert: "/c", Key: "/k", CA: "/ca"}); err != nil || c.Auth.TLS != want || !c.Auth.KnowsCallers() {
		t.Errorf("%+v, %v", c.Auth, err)
	}
}

func TestCredentials(t *testing.T) {
	clean(t)
	const content = "registries: {credentials: [{registry: ghcr.io, username: ci, password_file: /p}]}"
	c, err := configs.Load(file(t, content))
	if want := []configs.Credentials{{Registry: "ghcr.io", Username: "ci", PasswordFile: "/p"}}; err != nil || !reflect.DeepEqual(c.Registries.Credentials, want) {
		t.Errorf("%+v, %v", c.Registries, err)
	}
	_, err = configs.Load(file(t, strings.Replace(content, "password_file", "password", 1)))
	if err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("a password in the file itself: %v", err)
	}
	t.Setenv("TOWLINE_REGISTRIES_CREDENTIALS", "x")
	if _, err := configs.Load(file(t, "")); err == nil || !strings.Contains(err.Error(), "TOWLINE_REGISTRIES_CREDENTIALS") {
		t.Errorf("credentials in the environment: %v", err)
	}
}
