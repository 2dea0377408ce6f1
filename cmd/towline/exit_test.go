package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
)

func TestExitCodeOfWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"frobnicate"}, {"--nope"}, {"pull"}, {"pull", "--nope", "alpine"}, {"pull", "--timeout", "soon", "alpine"}, {"pull", "--retries", "x", "alpine"},
		{"jobs", "nope"}, {"jobs", "show"}, {"jobs", "show", "a", "b"}, {"jobs", "events"}, {"jobs", "cancel"}, {"jobs", "ls", "x"}, {"jobs", "ls", "--limit", "x"},
		{"serve", "x"}, {"serve", "--config", "/nowhere/towline.yaml"}, {"version", "x"}, {"completion", "bash", "x"}, {"completion", "nope"},
		{"jobs", "--host", "nonsense"},
	} {
		if code, out, err := run(t.Context(), args...); code != exit.CodeUsage || err == nil || out != "" {
			t.Errorf("%q: %d, %v, %q", args, code, err, out)
		}
	}
	for host, want := range map[string]string{"tcp://127.0.0.1:1": "http://127.0.0.1:1", "tcp://[::1]:1": "http://[::1]:1"} {
		var gone *client.Unreachable
		if code, _, err := run(t.Context(), "pull", "alpine", "--host", host); code != exit.CodeNoDaemon || !errors.As(err, &gone) || gone.Host != want {
			t.Errorf("%s: %d, %v", host, code, err)
		}
	}
	for _, args := range [][]string{{}, {"--version"}, {"--version", "--json"}, {"--help"}, {"pull", "--help"}, {"version"}, {"version", "--json"}, {"completion", "bash"}} {
		if code, out, err := run(t.Context(), args...); code != 0 || err != nil || out == "" {
			t.Errorf("%q: %d, %v, %q", args, code, err, out)
		}
	}
}

func TestExitCodeWithoutADaemon(t *testing.T) {
	for _, args := range [][]string{
		{"pull", "alpine"}, {"pull", "alpine", "busybox"}, {"jobs"}, {"jobs", "ls"}, {"jobs", "show", "x"}, {"jobs", "events", "x"}, {"jobs", "cancel", "x"},
	} {
		if code, _, err := run(t.Context(), append(args, "--host", "unix:///nowhere/towline.sock")...); code != exit.CodeNoDaemon {
			t.Errorf("%q: %d, %v", args, code, err)
		}
	}
	t.Setenv("TOWLINE_HOST", "unix:///elsewhere/towline.sock")
	var gone *client.Unreachable
	if _, _, err := run(t.Context(), "jobs"); !errors.As(err, &gone) || gone.Host != "unix:///elsewhere/towline.sock" {
		t.Errorf("TOWLINE_HOST leads to %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{{"pull", "alpine"}, {"jobs"}, {"jobs", "events", "x"}} {
		if code, _, err := run(ctx, args...); code != exit.CodeInterrupted {
			t.Errorf("%q, interrupted: %d, %v", args, code, err)
		}
	}
}

func TestUsageErrorsNameTheArgument(t *testing.T) {
	for args, want := range map[string]string{
		"pull":                      "IMAGE is missing (see towline pull --help)",
		"pull --timeout soon x":     `--timeout: "soon" is not a duration; write one such as 90s or 30m (see towline pull --help)`,
		"pull --retries few x":      `--retries: "few" is not a whole number (see towline pull --help)`,
		"run -m lots x":             `--memory: "lots" is not a size; write bytes, or a string such as "512m" (see towline run --help)`,
		"run -e =x one":             `--env: "=x" has no name; write NAME=value (see towline run --help)`,
		"jobs show":                 "JOB is missing (see towline jobs show --help)",
		"jobs show a b":             `argument "b": towline jobs show takes only one JOB (see towline jobs show --help)`,
		"jobs ls x":                 `argument "x": towline jobs ls takes no arguments (see towline jobs ls --help)`,
		"jobs nope":                 `unknown command "nope" for "towline jobs" (see towline jobs --help)`,
		"prewarm --profile x image": "--profile needs a Compose file; name one with -f, or a service of the one that is here (see towline prewarm --help)",
	} {
		code, out, err := run(t.Context(), strings.Fields(args)...)
		usage := exit.CodeUsage
		if strings.HasPrefix(args, "run ") {
			usage = exit.CodeRunFailed
		}
		if code != usage || out != "" || exit.Message(err) != want {
			t.Errorf("%q: exit code %d, %q, want %q; %s", args, code, exit.Message(err), want, out)
		}
	}
}
