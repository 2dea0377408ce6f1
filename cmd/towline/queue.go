package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/tables"
)

func newQueue(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "queue",
		Short: "Show which pulls wait for what, and registries in a cool-down",
		Long: "Show how many transfers fetch, which wait and for what, and the registries with\n" +
			"their cool-downs. A transfer is one pull of the engine, whatever the number of jobs\n" +
			"that want it.",
		Example: "  towline queue\n" +
			"  towline queue --json",
		Args: command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			state, err := c.Queue(ctx)
			if err != nil {
				return err
			}
			if f.JSON {
				return render.NewJSON(cmd.OutOrStdout()).Encode(state)
			}
			return tables.Queue(cmd.OutOrStdout(), state, time.Now())
		}),
	}
}
