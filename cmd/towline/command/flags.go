// Package command has what the commands of clients share: their flags, the client that
// these make, and the checks of arguments.
package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
)

// Flags are those of every client command.
type Flags struct {
	Host, Token string
	TLS         client.TLS
	JSON, Quiet bool
	// NoCredentials keeps the caller's logins from the daemon.
	NoCredentials bool
}

// Client returns a client of the daemon that the flags and the environment name.
func (f *Flags) Client() (*client.Client, error) {
	if f.Host == "" {
		f.Host = client.Host()
	}
	// As Docker's: tcp:// is TLS where files for it are named.
	if address, ok := strings.CutPrefix(f.Host, "tcp://"); ok {
		f.Host = "http://" + address
		if f.TLS != (client.TLS{}) {
			f.Host = "https://" + address
		}
	}
	if f.Token == "" {
		f.Token = os.Getenv("TOWLINE_TOKEN")
	}
	if strings.HasPrefix(f.Host, "https:") {
		SetFallbackRoots()
	}
	c, err := client.NewTLS(f.Host, f.Token, f.TLS)
	if err != nil {
		return nil, exit.Usage(err, "towline")
	}
	return c, nil
}

// Display returns what shows jobs on out. images are those that are going to be asked
// for, in their order.
func (f *Flags) Display(out io.Writer, images ...string) render.Display {
	switch {
	case f.JSON:
		return render.JSONLines(out)
	case f.Quiet:
		return render.References(out, images...)
	}
	return render.New(out, images...)
}

// WithClient calls run with a client of the daemon, and a context that a signal
// ends.
func WithClient(f *Flags, run func(context.Context, *cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := f.Client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return run(ctx, cmd, c, args)
	}
}
