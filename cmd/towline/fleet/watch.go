package fleet

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/puller/fleet"
)

// drawEvery is how often what is shown is brought up to date.
const drawEvery = 200 * time.Millisecond

func newWatch(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "watch [SET]",
		Short: "Follow the sets of the fleet, or one with the hosts that fail, until Ctrl-C",
		Example: "  towline fleet watch app\n" +
			"  towline fleet watch --json",
		Args: command.OptionalArgument("SET"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			p := newProgress(f, cmd.OutOrStdout())
			defer p.end()
			return follow(ctx, c, name, p)
		}),
		ValidArgsFunction: completeSets(f),
	}
}

// follow shows the events of a set, or of all, until ctx ends or the daemon does not answer.
func follow(ctx context.Context, c *client.Client, name string, p progress) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan fleet.Event)
	fault := make(chan error, 1)
	go func() {
		for e, err := range c.Fleet().Events(ctx, name) {
			if err != nil {
				fault <- err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
			}
		}
	}()
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		select {
		case e := <-events:
			p.take(e)
		case now := <-tick.C:
			p.draw(now)
		case err := <-fault:
			return err
		}
	}
}
