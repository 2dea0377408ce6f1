// Towline is a daemon that makes "this image is here, complete, and I saw it
// arrive" one HTTP call, and the command line that calls it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

func main() {
	err := newRoot().ExecuteContext(context.Background())
	code := exitCode(err)
	var program exited
	var printed told
	if err != nil && code != exitInterrupted && !errors.As(err, &program) && !errors.As(err, &printed) {
		fmt.Fprintln(os.Stderr, "towline: "+printable(err.Error()))
	}
	os.Exit(code)
}
