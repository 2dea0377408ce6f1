// Command daemon stands in for towline in the lab's own tests: it is ready on the first
// address of its configuration, and ends well on SIGTERM.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 4 || os.Args[1] != "serve" || os.Args[2] != "--config" {
		fmt.Fprintln(os.Stderr, "usage")
		os.Exit(2)
	}
	config, err := os.ReadFile(os.Args[3])
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "%s%s\n", config, os.Getenv("GREETING"))
	_, rest, _ := strings.Cut(string(config), "unix://")
	path, _, _ := strings.Cut(rest, `"`)
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	<-ctx.Done()
}
