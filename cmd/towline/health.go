package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// healthLimit is how long the daemon may take to answer. It waits 3 s for its
// engine.
const healthLimit = 5 * time.Second

// health is what "towline health --json" prints.
type health struct {
	Ready bool             `json:"ready"`
	Error *puller.JobError `json:"error,omitempty"`
}

func newHealth(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Check the daemon, its engine and its store",
		Long: "Check the daemon, its engine and its store. The exit code is 0 if all answer, 4\n" +
			"if the engine or the store does not, and 5 if the daemon does not. It needs no\n" +
			"token. Use it as the health check of a container.",
		Example: "  towline health && towline pull alpine:3.20",
		Args:    command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			asking, cancel := context.WithTimeout(ctx, healthLimit)
			defer cancel()
			err := c.Ready(asking)
			if err != nil && asking.Err() != nil && ctx.Err() == nil {
				err = &client.Unreachable{Host: f.Host, Err: fmt.Errorf("no answer within %s", healthLimit)}
			}
			if f.JSON {
				answer := health{Ready: err == nil}
				if err != nil {
					answer.Error = puller.NewJobError(err)
				}
				return errors.Join(err, render.NewJSON(cmd.OutOrStdout()).Encode(answer))
			}
			if err != nil || f.Quiet {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		}),
	}
}
