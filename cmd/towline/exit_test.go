package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

func ofKind(kind puller.ErrorKind) error { return puller.Errorf(kind, "x") }

// codes are a contract.
var codes = map[puller.ErrorKind]int{
	"not_found": 3, "denied": 3, "forbidden": 3, "platform_mismatch": 3, "invalid_request": 3,
	"rate_limited": 4, "engine_unavailable": 4, "registry_unavailable": 4, "truncated": 4, "corrupt": 4, "stalled": 4, "overloaded": 4,
	"unauthorized": 1, "conflict": 1, "canceled": 1, "timeout": 1, "no_space": 1, "internal": 1, "a_kind_of_a_newer_daemon": 1,
}

func TestExitCodeOfAKind(t *testing.T) {
	for kind, want := range codes {
		for _, err := range []error{
			ofKind(kind),
			fmt.Errorf("wrapped: %w", ofKind(kind)),
			failures{ofKind(kind)},
			jobError(puller.Job{Error: &puller.JobError{Kind: kind, Message: "x"}}),
		} {
			if got := exitCode(err); got != want {
				t.Errorf("%s (%T): %d, want %d", kind, err, got, want)
			}
		}
	}
	if err := jobError(puller.Job{Result: &puller.Result{}}); err != nil {
		t.Errorf("a job that succeeded is the error %v", err)
	}
}

// The table of the documents has each kind with its exit code.
func TestExitCodeInDocuments(t *testing.T) {
	page, err := os.ReadFile("../../api/README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[puller.ErrorKind]int{"a_kind_of_a_newer_daemon": 1}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| \\d{3} \\| (\\d) \\|").FindAllStringSubmatch(string(page), -1) {
		told[puller.ErrorKind(row[1])], _ = strconv.Atoi(row[2])
	}
	if diff := cmp.Diff(codes, told); diff != "" {
		t.Errorf("exit codes (-wanted +in api/README.md):\n%s", diff)
	}
}

func TestExitCodeOfSeveralErrors(t *testing.T) {
	gone := &client.Unreachable{Host: "unix:///x", Err: errors.New("refused")}
	permanent, again, failed := ofKind(puller.ErrNotFound), ofKind(puller.ErrStalled), ofKind(puller.ErrNoSpace)
	for _, row := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{usageError{errors.New("x"), "towline"}, 2},
		{gone, 5},
		{fmt.Errorf("wrapped: %w", gone), 5},
		{context.Canceled, 130},
		{fmt.Errorf("wrapped: %w", context.Canceled), 130},
		{context.DeadlineExceeded, 1},
		{failures{again, again}, 4},
		{failures{again, failed}, 1},
		{failures{again, permanent}, 3},
		{failures{failed, permanent, again}, 3},
		{failures{permanent, gone}, 5},
		{failures{again, errors.New("x")}, 1},
	} {
		if got := exitCode(row.err); got != row.want {
			t.Errorf("%v: %d, want %d", row.err, got, row.want)
		}
	}
}

func TestExitCodeOfWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"frobnicate"}, {"--nope"}, {"pull"}, {"pull", "--nope", "alpine"}, {"pull", "--timeout", "soon", "alpine"}, {"pull", "--retries", "x", "alpine"},
		{"jobs", "nope"}, {"jobs", "show"}, {"jobs", "show", "a", "b"}, {"jobs", "events"}, {"jobs", "cancel"}, {"jobs", "ls", "x"}, {"jobs", "ls", "--limit", "x"},
		{"serve", "x"}, {"serve", "--config", "/nowhere/towline.yaml"}, {"version", "x"}, {"completion", "bash", "x"}, {"completion", "nope"},
		{"jobs", "--host", "nonsense"},
	} {
		if code, out, err := run(t.Context(), args...); code != exitUsage || err == nil || out != "" {
			t.Errorf("%q: %d, %v, %q", args, code, err, out)
		}
	}
	for host, want := range map[string]string{"tcp://127.0.0.1:1": "http://127.0.0.1:1", "tcp://[::1]:1": "http://[::1]:1"} {
		var gone *client.Unreachable
		if code, _, err := run(t.Context(), "pull", "alpine", "--host", host); code != exitNoDaemon || !errors.As(err, &gone) || gone.Host != want {
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
		if code, _, err := run(t.Context(), append(args, "--host", "unix:///nowhere/towline.sock")...); code != exitNoDaemon {
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
		if code, _, err := run(ctx, args...); code != exitInterrupted {
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
		"prewarm --profile x image": "--profile needs a Compose file; name one with -f (see towline prewarm --help)",
	} {
		code, out, err := run(t.Context(), strings.Fields(args)...)
		usage := exitUsage
		if strings.HasPrefix(args, "run ") {
			usage = exitRunFailed
		}
		if code != usage || out != "" || message(err) != want {
			t.Errorf("%q: exit code %d, %q, want %q; %s", args, code, message(err), want, out)
		}
	}
}

func TestMessageSaysWhatToDo(t *testing.T) {
	unreachable := func(err error) error { return &client.Unreachable{Host: "unix:///s", Err: err} }
	for _, row := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{programExit(3), ""},
		{printedError{errors.New("x")}, ""},
		{fmt.Errorf("wrapped: %w", context.Canceled), ""},
		{errors.New(nasty[:6]), "x\ufffd[2J "},
		{puller.Errorf(puller.ErrInvalidRequest, "%w", compose.Faults{errors.New("a.yaml: x"), errors.New("b.yaml: \n")}), "a.yaml: x\ntowline: b.yaml:  "},
		{unreachable(syscall.ENOENT), `no towline daemon answers at unix:///s: no such file or directory. Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`},
		{unreachable(syscall.ECONNREFUSED), `no towline daemon answers at unix:///s: connection refused. Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`},
		{unreachable(syscall.EACCES), `no access to the towline daemon at unix:///s: permission denied. Join the group that owns the socket ("socket_group" in towline.yaml), or run this as root.`},
		{unreachable(io.ErrUnexpectedEOF), "no towline daemon answers at unix:///s: unexpected EOF"},
	} {
		if got := message(row.err); got != row.want {
			t.Errorf("%v: %q, want %q", row.err, got, row.want)
		}
	}
}
