package configs_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/towline/towline/configs"
)

// The rows of the table in SECURITY.md that are about the configuration: a key that
// restricts callers stops the start if it is empty.
func TestEmptyKey(t *testing.T) {
	clean(t)
	lists := []string{"rules.pull.allow", "rules.pull.deny", "rules.pull.policies", "rules.pull.platforms", "rules.run.allow", "rules.run.deny", "rules.run.policies", "rules.run.platforms", "keep.protect"}
	switches := []string{"runs.enabled", "auth.verify_image_access", "registries.docker_config", "rules.pull.require_digest", "rules.run.require_digest"}
	files := []string{"auth.token_file", "auth.tls.cert", "auth.tls.key", "auth.tls.ca"}
	stops := func(t *testing.T, key, content string) {
		t.Helper()
		c, err := configs.Load(file(t, content))
		if err == nil {
			t.Errorf("%q is accepted as %+v", content, c)
		} else if !strings.Contains(err.Error(), key+": ") || strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("%q is refused without naming %s in one line: %q", content, key, err)
		}
	}
	for _, key := range append(append(append([]string{"rules", "rules.pull", "rules.run", "auth.tls"}, lists...), switches...), files...) {
		t.Run(key, func(t *testing.T) {
			for _, nothing := range []string{"", "~", "null", "# a comment\n ", "&a", "!!null ''"} {
				stops(t, key, yaml(key, nothing))
			}
			stops(t, key, strings.ToUpper(key)+":\n") // the same key
			stops(t, key, "log: {level: &nothing ~}\n"+yaml(key, "*nothing"))
		})
	}
	for _, key := range lists {
		t.Run(key, func(t *testing.T) {
			for _, bent := range []string{`""`, "{}", "{a: b}"} {
				stops(t, key, yaml(key, bent))
			}
			if !strings.HasSuffix(key, ".deny") && key != "keep.protect" {
				stops(t, key, yaml(key, "[]"))
				return
			}
			c, err := configs.Load(file(t, yaml(key, "[]")))
			if err != nil || !reflect.DeepEqual(c, configs.Default()) {
				t.Errorf("an empty list: %+v, %v", c.Rules, err)
			}
		})
	}
	for _, key := range switches {
		t.Run(key, func(t *testing.T) {
			for _, bent := range []string{`""`, "[]", "{}", "0", "1", "no", "off", `"0"`, "T", "yes"} {
				stops(t, key, yaml(key, bent))
			}
		})
	}
	for _, section := range []string{"rules", "rules.pull", "rules.run", "auth", "auth.tls", "runs", "registries", "limits"} {
		t.Run(section, func(t *testing.T) {
			for _, bent := range []string{"[]", `""`, "false", "[a]"} {
				stops(t, section, yaml(section, bent))
			}
			if c, err := configs.Load(file(t, yaml(section, "{}"))); err != nil || !reflect.DeepEqual(c, configs.Default()) {
				t.Errorf("a section without keys: %+v, %v", c, err)
			}
		})
	}
	for _, key := range append(append(lists, switches...), files...) {
		t.Run(variable(key), func(t *testing.T) {
			t.Setenv(variable(key), "")
			stopped := "environment: " + variable(key)
			if c, err := configs.Load(file(t, "")); err == nil || !strings.Contains(err.Error(), stopped) {
				t.Errorf("an empty variable: %v, %+v", err, c)
			}
		})
	}
	for content, key := range map[string]string{
		"rules: {pull: {deny: [docker.io/**]}}\nRules: {pull: {deny: []}}\n":      "rules",
		"rules: {pull: {deny: [docker.io/**], DENY: []}}\n":                       "rules.pull.deny",
		"rules.pull.deny: [docker.io/**]\nrules: {pull: {deny: []}}\n":            "rules.pull.deny",
		"runs: {enabled: false}\nruns.enabled: true\n":                            "runs.enabled",
		"rules: &r {pull: {deny: [docker.io/**]}}\nRULES: *r\n":                   "rules",
		"x: &x {allow: }\nrules: {pull: {<<: *x}}\n":                              "rules.pull.allow",
		"x: &x {allow: }\ny: &y {deny: []}\nrules: {pull: {<<: [*y, *x]}}\n":      "rules.pull.allow",
		"rules: {pull: {allow: [&n ~, *n]}}":                                      "rules.pull.allow",
		"rules:\n  pull:\n    deny:\n      -\n":                                   "rules.pull.deny",
		"{}\n---\nrules: {pull: {deny: [docker.io/**]}}\n":                        "configuration ",
		"rules: {pull: {deny: [docker.io/**]}}\n---\nruns: {enabled: false}\n...": "configuration ",
	} {
		t.Run("hidden/"+key, func(t *testing.T) {
			if c, err := configs.Load(file(t, content)); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%q: %v, %+v", content, err, c)
			}
		})
	}
	for _, cycle := range []string{"rules: &r {pull: *r}", "rules: &r {<<: *r}", "rules: {pull: &p {run: *p, <<: *p}}"} {
		t.Run("cycle", func(t *testing.T) {
			if c, err := configs.Load(file(t, cycle)); err == nil {
				t.Errorf("%q: %+v", cycle, c)
			}
		})
	}
}

// A key that permits something permits nothing if it is empty.
func TestEmptyPermission(t *testing.T) {
	clean(t)
	for _, key := range []string{"auth.hosts", "registries.allow_private", "registries.credentials", "socket_group", "listen"} {
		for _, nothing := range []string{"", "# a comment\n "} {
			c, err := configs.Load(file(t, yaml(key, nothing)))
			c.Registries.Credentials = append([]configs.Credentials(nil), c.Registries.Credentials...)
			if err != nil || fmt.Sprint(c) != fmt.Sprint(configs.Default()) {
				t.Errorf("%s: %q: %+v, %v", key, nothing, c, err)
			}
		}
	}
}
