package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAsPlugin(t *testing.T) {
	for line, want := range map[string]string{
		"/usr/libexec/docker/cli-plugins/docker-towline towline pull alpine": "pull alpine",
		"docker-towline --config /c --host unix:///d towline pull towline":   "pull towline",
		"docker-towline towline":                     "",
		"docker-towline help towline pull":           "pull --help",
		"docker-towline __complete towline pu":       "__complete pu",
		"docker-towline __completeNoDesc towline pu": "__completeNoDesc pu",
		"docker-towline docker-cli-plugin-metadata":  "docker-cli-plugin-metadata",
		"docker-towline check-store /f":              "check-store /f",
	} {
		if got, ok := asPlugin(strings.Fields(line)); !ok || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	for _, args := range [][]string{nil, {"towline", "towline"}, {"/usr/bin/towline", "pull"}, {"docker"}} {
		if got, ok := asPlugin(args); ok {
			t.Errorf("%q is a plugin: %q", args, got)
		}
	}
}

func TestPluginMetadata(t *testing.T) {
	code, out, err := run(t.Context(), pluginMetadata)
	var m struct{ SchemaVersion, Vendor, Version, ShortDescription string }
	if json.Unmarshal([]byte(out), &m) != nil || code != 0 || m.SchemaVersion != "0.1.0" || m.Vendor == "" || m.Version != version || m.ShortDescription == "" {
		t.Errorf("%d, %v: %s", code, err, out)
	}
}
