package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
)

// healthLimit is how long a daemon has to answer. It gives its engine 3 s.
const healthLimit = 5 * time.Second

func newHealth(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Ask whether the daemon, its engine and its store answer",
		Long: "Asks whether the daemon, its engine and its store answer. It exits with 0, with\n" +
			"4 where an engine or a store does not, and with 5 where there is no daemon; it\n" +
			"needs no token. It is what a container's health check runs.",
		Args: usage(cobra.NoArgs),
		RunE: withClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			asking, cancel := context.WithTimeout(ctx, healthLimit)
			defer cancel()
			err := c.Ready(asking)
			switch {
			case err != nil && asking.Err() != nil && ctx.Err() == nil:
				return &client.Unreachable{Host: f.host, Err: fmt.Errorf("no answer within %s", healthLimit)}
			case err != nil || f.quiet:
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		}),
	}
}
