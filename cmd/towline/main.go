// Towline is a daemon that makes "this image is here, complete, and I saw it
// arrive" one HTTP call, and the command line that calls it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
)

func main() {
	err := newProgram().ExecuteContext(context.Background())
	if text := exit.Message(err); text != "" {
		fmt.Fprintln(os.Stderr, render.PaletteOf(os.Stderr).Failed("towline:")+" "+text)
	}
	os.Exit(exit.Code(err))
}
