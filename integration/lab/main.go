package lab

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

// WithTowline is what TestMain of a package does first: it parses the flags, and builds
// towline with the race detector, as bin in a new directory. run starts what all tests share,
// and runs them; starting ends with ctx, after five minutes. The directory goes at the end.
// The result is the exit code: that of run, or 1 if an error of it or of the build is printed.
func WithTowline(run func(ctx context.Context, dir, bin string) (code int, err error)) int {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	// Not below the directory of a test: its long names leave no room for a socket's path.
	dir, err := os.MkdirTemp("", "tl")
	if err == nil {
		defer os.RemoveAll(dir)
		var bin string
		if bin, err = BuildTowline(ctx, dir, "-race"); err == nil {
			var code int
			if code, err = run(ctx, dir, bin); err == nil {
				return code
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
