package pull

import (
	"context"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
)

func TestRunExitCode(t *testing.T) {
	for message, want := range map[string]int{
		`exec: "nope": executable file not found in $PATH`:                exit.CodeNoProgram,
		"exec: \"/nope\": stat /nope: no such file or directory: unknown": exit.CodeNoProgram,
		`exec: "/etc": permission denied`:                                 exit.CodeNotExecuted,
		`exec: "/etc": is a directory`:                                    exit.CodeNotExecuted,
		"exec /x: exec format error":                                      exit.CodeNotExecuted,
		"working directory /x is invalid":                                 exit.CodeRunFailed,
	} {
		if err := ofRun("one", puller.Errorf(puller.ErrInvalidRequest, "%s", message)); exit.Code(err) != want || !strings.HasPrefix(err.Error(), "run one: "+message) || strings.HasSuffix(err.Error(), message) != (want == exit.CodeRunFailed) {
			t.Errorf("%v: %d, want %d", err, exit.Code(err), want)
		}
		if err := ofRun("one", puller.Errorf(puller.ErrInternal, "%s", message)); exit.Code(err) != exit.CodeRunFailed {
			t.Errorf("%v: %d", err, exit.Code(err))
		}
	}
	for err, want := range map[error]int{nil: 0, exit.Program(7): 7, context.Canceled: exit.CodeInterrupted} {
		if got := exit.Code(ofRun("one", err)); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}
