package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

func ofKind(kind puller.ErrorKind) error { return puller.Errorf(kind, "x") }

// codes is the contract of exit codes.
var codes = map[puller.ErrorKind]int{
	"not_found": 3, "denied": 3, "forbidden": 3, "platform_mismatch": 3, "invalid_request": 3,
	"rate_limited": 4, "engine_unavailable": 4, "registry_unavailable": 4, "truncated": 4, "corrupt": 4, "stalled": 4, "overloaded": 4,
	"unauthorized": 1, "conflict": 1, "canceled": 1, "timeout": 1, "no_space": 1, "internal": 1, "a_kind_of_a_newer_daemon": 1,
}

func TestTheExitCodeFollowsFromTheKind(t *testing.T) {
	for kind, want := range codes {
		for _, err := range []error{
			ofKind(kind),
			fmt.Errorf("wrapped: %w", ofKind(kind)),
			failures{ofKind(kind)},
			outcome(puller.Job{Error: &puller.JobError{Kind: kind, Message: "x"}}),
		} {
			if got := exitCode(err); got != want {
				t.Errorf("%s (%T): %d, want %d", kind, err, got, want)
			}
		}
	}
	if err := outcome(puller.Job{Result: &puller.Result{}}); err != nil {
		t.Errorf("a job that succeeded is the error %v", err)
	}
}

func TestTheExitCodeOfSeveralFailuresIsThatOfTheWorst(t *testing.T) {
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

func TestCallsThatCannotBeUnderstoodExitWithTwo(t *testing.T) {
	for _, args := range [][]string{
		{"frobnicate"}, {"--nope"}, {"pull"}, {"pull", "--nope", "alpine"}, {"pull", "--timeout", "soon", "alpine"}, {"pull", "--retries", "x", "alpine"},
		{"jobs", "nope"}, {"jobs", "show"}, {"jobs", "show", "a", "b"}, {"jobs", "events"}, {"jobs", "cancel"}, {"jobs", "ls", "x"}, {"jobs", "ls", "--limit", "x"},
		{"serve", "x"}, {"serve", "--config", "/nowhere/towline.yaml"}, {"version", "x"}, {"completion", "bash", "x"},
		{"pull", "alpine", "--host", "tcp://127.0.0.1:1"}, {"jobs", "--host", "nonsense"},
	} {
		if code, out, err := run(t.Context(), args...); code != exitUsage || err == nil || out != "" {
			t.Errorf("%q: %d, %v, %q", args, code, err, out)
		}
	}
	for _, args := range [][]string{{}, {"--help"}, {"pull", "--help"}, {"version"}, {"version", "--json"}, {"completion", "bash"}} {
		if code, out, err := run(t.Context(), args...); code != 0 || err != nil || out == "" {
			t.Errorf("%q: %d, %v, %q", args, code, err, out)
		}
	}
}

func TestWithoutADaemonCommandsExitWithFive(t *testing.T) {
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
