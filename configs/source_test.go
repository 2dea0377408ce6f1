package configs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/towline/towline/configs"
)

func TestErrorSource(t *testing.T) {
	clean(t)
	for _, row := range []struct{ file, variable, value, want string }{
		{"pull:\n  retries: [\n", "", "", "configuration FILE, line 2: it is no YAML: did not find expected node content"},
		{"pull:\n  retries: 21\n", "", "", "configuration FILE, line 2: pull.retries: 21 is not between 0 and 20"},
		{"pull:\n  retries: [\n", "", "", "configuration FILE, line 2: it is no YAML: did not find expected node content"},
		{"pull:\n  retries: 21\n", "TOWLINE_PULL_RETRIES", "22", "configuration: environment variable TOWLINE_PULL_RETRIES: pull.retries: 22 is not between 0 and 20"},
		{"pull.retries: x\n", "", "", `configuration FILE, line 1: pull.retries: "x" is not a whole number`},
		{"x: 1\nPull:\n  timeout: soon\n", "", "", "configuration FILE, line 1: there is no key x"},
		{"Pull:\n  timeout: soon\n", "", "", `configuration FILE, line 2: pull.timeout: "soon" is not a duration; write one with its unit, such as 90s, 30m or 720h`},
		{"", "TOWLINE_RUNS_OUTPUT", "lots", `configuration: environment variable TOWLINE_RUNS_OUTPUT: runs.output: "lots" is not a whole number of bytes; write one, or a size such as 16MiB`},
		{"", "TOWLINE_RUNS_ENABLED", "perhaps", `configuration: environment variable TOWLINE_RUNS_ENABLED: runs.enabled: "perhaps" is neither true nor false`},
		{"log:\n  level: loud\n", "", "", `configuration FILE, line 2: log.level: "loud" is not known; use error, warn, info, debug or trace`},
		{"engine: {api_version: v1}\n", "", "", `configuration FILE, line 1: engine.api_version: "v1" is not a version of the engine's API, such as "1.41"; empty, it is negotiated`},
		{"", "TOWLINE_REGISTRIES_CERTIFICATES", "certs.d", `configuration: environment variable TOWLINE_REGISTRIES_CERTIFICATES: registries.certificates: "certs.d" is not an absolute path`},
		{"pull: {timeout: 5}\n", "", "", "configuration FILE, line 1: pull.timeout: 5 is not a duration; write one with its unit, such as 90s, 30m or 720h"},
		{"runs: {enabled: [a]}\n", "", "", "configuration FILE, line 1: runs.enabled: it is neither true nor false"},
		{"keep: {collect: true}\n", "", "", "configuration FILE, line 1: keep.collect: true is not a text"},
		{"keep: {max_unused: 0}\nfleet: {name: A b}\n", "", "", `configuration FILE, line 2: fleet.name: "A b" begins with 'A'; the name of a fleet has 1 to 32 lower-case letters, digits and hyphens, and begins with one of the first two`},
		{"fleet: {peer_listen: 127.0.0.1}\n", "", "", `configuration FILE, line 1: fleet.peer_listen: "127.0.0.1" is not HOST:PORT, such as 0.0.0.0:4222`},
		{"log:\n  level: [a]\n", "", "", "configuration FILE, line 2: log.level: [a] is not a text"},
		{"auth:\n  tls: {cert: /c}\n", "", "", "configuration FILE, line 2: auth.tls.key: empty; auth.tls.cert needs its key"},
		{"pull:\n  retires: 2\n", "", "", "configuration FILE, line 2: there is no key pull.retires; did you mean pull.retries?"},
		{"registries:\n  credentials: [{name: ada}]\n", "", "", "configuration FILE, line 2: registries.credentials[0]: there is no key name"},
		{"registries:\n  credentials: ada\n", "", "", "configuration FILE, line 2: registries.credentials[0]: it has keys of its own; write {KEY: VALUE, …}"},
		{"keep: {high: x}\n", "", "", `configuration FILE, line 1: keep.high: "x" is not a percentage; write a whole number with its sign, such as 85%`},
		{"fleet: {labels: x}\n", "", "", `configuration FILE, line 1: fleet.labels: "x" is not NAME=VALUE`},
		{"base: &b {retries: 21}\npull: {<<: *b}\n", "", "", "configuration FILE, line 1: there is no key base"},
	} {
		t.Run(row.want, func(t *testing.T) {
			if row.variable != "" {
				t.Setenv(row.variable, row.value)
			}
			path := file(t, row.file)
			_, err := configs.Load(path)
			if want := strings.Replace(row.want, "FILE", path, 1); err == nil || err.Error() != want || !errors.As(err, new(*configs.Error)) {
				t.Errorf("%v (%T), want %s", err, err, want)
			}
		})
	}
}

func TestLocate(t *testing.T) {
	clean(t)
	path := file(t, "rules:\n  pull:\n    deny: [alpine]\nregistries:\n  credentials:\n  - {}\n")
	for text, want := range map[string]string{
		"configuration: rules.pull.deny: \"alpine\" is wrong": "configuration " + path + ", line 3: rules.pull.deny: \"alpine\" is wrong",
		"registries.credentials[0].username: missing":         "configuration " + path + ", line 5: registries.credentials[0].username: missing",
		"rules.run.deny: x": "configuration " + path + ", line 1: rules.run.deny: x",
		"log.level: x":      "configuration " + path + ": log.level: x",
	} {
		if err := configs.Locate(path, errors.New(text)); err.Error() != want || !errors.As(err, new(*configs.Error)) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, text := range []string{"listen on unix:///x: denied", "log.levels: x", "", "the store"} {
		if err := errors.New(text); configs.Locate(path, err) != err {
			t.Errorf("%q becomes %v", text, configs.Locate(path, err))
		}
	}
	if configs.Locate(path, nil) != nil {
		t.Error("no error becomes one")
	}
}
