package exit_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/exit"
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
			exit.Failures{ofKind(kind)},
			exit.OfJob(puller.Job{Error: &puller.JobError{Kind: kind, Message: "x"}}),
		} {
			if got := exit.Code(err); got != want {
				t.Errorf("%s (%T): %d, want %d", kind, err, got, want)
			}
		}
	}
	if err := exit.OfJob(puller.Job{Result: &puller.Result{}}); err != nil {
		t.Errorf("a job that succeeded is the error %v", err)
	}
}

// The table of the documents has each kind with its exit code.
func TestExitCodeInDocuments(t *testing.T) {
	page, err := os.ReadFile("../../../api/README.md")
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
		{exit.Usage(errors.New("x"), "towline"), 2},
		{gone, 5},
		{fmt.Errorf("wrapped: %w", gone), 5},
		{context.Canceled, 130},
		{fmt.Errorf("wrapped: %w", context.Canceled), 130},
		{context.DeadlineExceeded, 1},
		{exit.Failures{again, again}, 4},
		{exit.Failures{again, failed}, 1},
		{exit.Failures{again, permanent}, 3},
		{exit.Failures{failed, permanent, again}, 3},
		{exit.Failures{permanent, gone}, 5},
		{exit.Failures{again, errors.New("x")}, 1},
	} {
		if got := exit.Code(row.err); got != row.want {
			t.Errorf("%v: %d, want %d", row.err, got, row.want)
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
		{exit.Program(3), ""},
		{exit.Printed(errors.New("x")), ""},
		{fmt.Errorf("wrapped: %w", context.Canceled), ""},
		{errors.New("x\x1b[2J\r"), "x\ufffd[2J "},
		{puller.Errorf(puller.ErrInvalidRequest, "%w", compose.Faults{errors.New("a.yaml: x"), errors.New("b.yaml: \n")}), "a.yaml: x\ntowline: b.yaml:  "},
		{unreachable(syscall.ENOENT), `no towline daemon answers at unix:///s: no such file or directory. Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`},
		{unreachable(syscall.ECONNREFUSED), `no towline daemon answers at unix:///s: connection refused. Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`},
		{unreachable(http.ErrSchemeMismatch), `no towline daemon answers at unix:///s: http: server gave HTTP response to HTTPS client. It has no TLS there: write http:// for its address in --host or TOWLINE_HOST.`},
		{unreachable(syscall.EACCES), `no access to the towline daemon at unix:///s: permission denied. Join the group that owns the socket ("socket_group" in towline.yaml), or run this as root.`},
		{unreachable(io.ErrUnexpectedEOF), "no towline daemon answers at unix:///s: unexpected EOF"},
	} {
		if got := exit.Message(row.err); got != row.want {
			t.Errorf("%v: %q, want %q", row.err, got, row.want)
		}
	}
}

func TestMessageOfAJob(t *testing.T) {
	of := func(kind puller.ErrorKind, image string) error {
		return exit.OfJob(puller.Job{Image: image, Error: &puller.JobError{Kind: kind, Message: "x"}})
	}
	ada, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"x","serveraddress":"a.test"}`)))
	if err != nil {
		t.Fatal(err)
	}
	const lost = `towline: not_found: check the name and the tag of the image; push it, if it is yours; with the policy never, pull it first. See "towline explain not_found".`
	for _, row := range []struct {
		name  string
		err   error
		lines []string // patterns, below the first line
	}{
		{"one", of(puller.ErrNotFound, "a.test/x:v1"), []string{regexp.QuoteMeta(lost)}},
		{"several of a kind", exit.Failures{of(puller.ErrNotFound, "a.test/x:v1"), of(puller.ErrNotFound, "a.test/y:v1")}, []string{regexp.QuoteMeta(lost)}},
		{"denied", exit.Failures{of(puller.ErrDenied, "b.test/x:v1"), of(puller.ErrNotFound, "a.test/x:v1"), of(puller.ErrDenied, "a.test/y:v1")}, []string{
			`towline: No login came with the call, or it was refused\. .+`, `towline: denied: check the name .+ "docker login a\.test" .+ See "towline explain denied"\.`, regexp.QuoteMeta(lost),
		}},
		{"denied one login", exit.Logins{Sent: []puller.Credentials{ada}}.Explain(
			exit.Failures{of(puller.ErrDenied, "b.test/x:v1"), of(puller.ErrDenied, "a.test/y:v1")}), []string{
			`towline: This command sent your login for a\.test, from .+\. It was refused: .+`, `towline: This command found no login for b\.test in .+`, `towline: denied: check the name .+`,
		}},
		{"denied without logins", exit.Logins{None: "--no-credentials"}.Explain(of(puller.ErrDenied, "a.test/y:v1")), []string{
			`towline: This command sent no login for a\.test, because of --no-credentials\. The daemon looked .+`, `towline: denied: check the name .+`,
		}},
		{"canceled", of(puller.ErrCanceled, "a.test/x:v1"), nil},
		{"of a later daemon", of("new_kind", "a.test/x:v1"), nil},
		{"not of a job", ofKind(puller.ErrNotFound), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			lines := strings.Split(exit.Message(row.err), "\n")[1:]
			if len(lines) != len(row.lines) {
				t.Fatalf("%q", lines)
			}
			for i, pattern := range row.lines {
				if !regexp.MustCompile(`\A` + pattern + `\z`).MatchString(lines[i]) {
					t.Errorf("%q does not match %q", lines[i], pattern)
				}
			}
		})
	}
}
