// Package fleet has the commands for many hosts as one.
package fleet

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// New returns the command fleet.
func New(f *command.Flags) *cobra.Command {
	all := &cobra.Command{
		Use:   "fleet",
		Short: "Keep images on all hosts of a fleet: apply, watch and show sets; invite hosts",
		Long: "Say how the daemon's host stands to its fleet, and list the sets of the fleet.\n\n" +
			"A set of a fleet is a list of images that all hosts with its labels have. Its tags\n" +
			"are resolved to digests once, for all hosts. A rollout says how many hosts get them\n" +
			"at a time. Changing a fleet needs a token with the scope admin.",
		Example: "  towline fleet\n" +
			"  towline fleet apply app registry.example.com/app:v7 --hosts role=ci --wait",
		Args: command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			return status(ctx, f, cmd.OutOrStdout(), c)
		}),
	}
	all.AddCommand(newApply(f), newShow(f), newWatch(f), newHosts(f), newRm(f),
		newRollout(f, fleet.ActionPause, "Have no further host get a set's images; those that may have them go on", "paused"),
		newRollout(f, fleet.ActionResume, "Go on with the rollout of a set, by its next wave", "resumed"),
		newRollout(f, fleet.ActionCancel, "End the rollout of a set where it is", "canceled"),
		newInvite(f), newUninvite(f))
	return all
}

// status prints how the daemon's host stands to its fleet, and the sets of the fleet where
// it knows them.
func status(ctx context.Context, f *command.Flags, out io.Writer, c *client.Client) error {
	link, err := c.Fleet().Link(ctx)
	if err != nil {
		return err
	}
	if link.State == fleet.LinkOff && !f.JSON {
		return puller.Errorf(puller.ErrNotFound, "%s", link.Reason)
	}
	var sets []fleet.Set
	if link.Controller {
		if sets, err = c.Fleet().Sets(ctx); err != nil {
			return err
		}
	}
	switch {
	case f.JSON:
		return render.NewJSON(out).Encode(map[string]any{"link": link, "sets": sets})
	case !f.Quiet:
		fmt.Fprintln(out, render.SafeText(linkText(link)))
	}
	if len(sets) == 0 {
		return nil
	}
	return printSets(f, out, sets)
}

// completeSets completes the names of the fleet's sets.
func completeSets(f *command.Flags) cobra.CompletionFunc {
	return command.Complete(f, func(ctx context.Context, c *client.Client) (names []string) {
		sets, _ := c.Fleet().Sets(ctx)
		for _, s := range sets {
			names = append(names, s.Name)
		}
		return names
	})
}

// completeHosts completes the IDs of hosts.
func completeHosts(f *command.Flags) cobra.CompletionFunc {
	return command.Complete(f, func(ctx context.Context, c *client.Client) (ids []string) {
		hosts, _ := c.Fleet().Hosts(ctx, nil)
		for _, h := range hosts {
			ids = append(ids, h.ID)
		}
		return ids
	})
}

func newShow(f *command.Flags) *cobra.Command {
	var all bool
	var state string
	show := &cobra.Command{
		Use:   "show [SET]",
		Short: "List the sets of the fleet, or show how one stands on its hosts",
		Long: "List the sets of the fleet, or show how one stands on its hosts. Hosts that have\n" +
			"proven it are only counted, unless --all or --state is set.",
		Example: "  towline fleet show\n" +
			"  towline fleet show app --state failed",
		Args: command.OptionalArgument("SET"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			out := cmd.OutOrStdout()
			if len(args) == 0 {
				sets, err := c.Fleet().Sets(ctx)
				if err != nil {
					return err
				}
				return printSets(f, out, sets)
			}
			s, err := c.Fleet().Set(ctx, args[0], fleet.State(state))
			if err != nil {
				return err
			}
			return printSet(f, out, s, all || state != "")
		}),
		ValidArgsFunction: completeSets(f),
	}
	show.Flags().BoolVar(&all, "all", false, "list also hosts that have proven it")
	show.Flags().StringVar(&state, "state", "", "only hosts in this `state`: "+strings.Join(stateNames(), ", "))
	show.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(stateNames(), cobra.ShellCompDirectiveNoFileComp))
	return show
}

func stateNames() (names []string) {
	for _, s := range fleet.States {
		names = append(names, string(s))
	}
	return names
}

func printSets(f *command.Flags, out io.Writer, sets []fleet.Set) error {
	if f.JSON {
		return render.NewJSON(out).Encode(map[string]any{"sets": sets})
	}
	if f.Quiet {
		for _, s := range sets {
			fmt.Fprintln(out, render.SafeText(s.Name))
		}
		return nil
	}
	return setTable(out, sets, time.Now())
}

// printSet prints a set with its members.
func printSet(f *command.Flags, out io.Writer, s fleet.Set, all bool) error {
	switch {
	case f.JSON:
		return render.NewJSON(out).Encode(s)
	case f.Quiet:
		return nil
	}
	return setDetails(out, s, all, time.Now())
}

func newHosts(f *command.Flags) *cobra.Command {
	var labels map[string]string
	var away bool
	hosts := &cobra.Command{
		Use:     "hosts",
		Short:   "List the hosts of the fleet",
		Example: "  towline fleet hosts --label role=ci --away",
		Args:    command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			all, err := c.Fleet().Hosts(ctx, labels)
			if err != nil {
				return err
			}
			if away {
				all = slices.DeleteFunc(all, func(h fleet.Host) bool { return h.Live })
			}
			out := cmd.OutOrStdout()
			switch {
			case f.JSON:
				return render.NewJSON(out).Encode(map[string]any{"hosts": all})
			case f.Quiet:
				for _, h := range all {
					fmt.Fprintln(out, render.SafeText(h.ID))
				}
				return nil
			}
			return hostTable(out, all, time.Now())
		}),
	}
	hosts.Flags().StringToStringVar(&labels, "label", nil, "only hosts with the label `NAME=VALUE`; may be repeated")
	hosts.Flags().BoolVar(&away, "away", false, "only hosts that are not heard")
	return hosts
}

func newRm(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:     "rm SET...",
		Short:   "Forget sets of the fleet; their images stay on the hosts",
		Example: "  towline fleet rm app",
		Args:    command.SomeArguments("SET"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			for _, name := range args {
				if _, err := c.Fleet().DeleteSet(ctx, name); err != nil {
					return err
				}
				if !f.Quiet {
					fmt.Fprintln(cmd.OutOrStdout(), render.SafeText(name+": forgotten"))
				}
			}
			return nil
		}),
		ValidArgsFunction: completeSets(f),
	}
}

func newRollout(f *command.Flags, action fleet.RolloutAction, short, done string) *cobra.Command {
	return &cobra.Command{
		Use:     string(action) + " SET",
		Short:   short,
		Example: "  towline fleet " + string(action) + " app",
		Args:    command.OneArgument("SET"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			s, err := c.Fleet().ChangeRollout(ctx, args[0], action)
			out := cmd.OutOrStdout()
			switch {
			case err != nil:
				return err
			case f.JSON:
				return render.NewJSON(out).Encode(s)
			case f.Quiet:
				return nil
			}
			_, err = fmt.Fprintln(out, render.SafeText(s.Name+": "+done+"; "+summary(s)))
			return err
		}),
		ValidArgsFunction: completeSets(f),
	}
}
