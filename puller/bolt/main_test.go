package bolt_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/towline/towline/puller/bolt/database"
)

// Arguments that make the test binary another process.
const (
	checkArgument = "check-a-store"
	saveArgument  = "save-until-killed"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case checkArgument:
			// Less than the daemon gives it: with the race detector, a check takes long to
			// fill its memory. It needs 500 MiB of it for that detector.
			database.Check(os.Args[2], 640<<20, os.Stdout)
			return
		case saveArgument:
			fmt.Fprintln(os.Stderr, saveUntilKilled(os.Args[2]))
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// checker runs this binary. With the race detector in it, a process would sleep for a
// second at its end, and exit with 66 where it has no memory left.
var checker = []string{"/usr/bin/env", "GORACE=atexit_sleep_ms=0 exitcode=2", os.Args[0], checkArgument}
