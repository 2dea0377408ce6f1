package keep

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller/keep"
)

// NewLease returns the command lease.
func NewLease(f *command.Flags) *cobra.Command {
	var filter keep.LeaseFilter
	ls := &cobra.Command{
		Use:     "ls",
		Short:   "List leases, newest first",
		Example: "  towline lease ls --image redis:7",
		Args:    command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			leases, next, err := c.Leases().List(ctx, filter)
			if err != nil {
				return err
			}
			return command.PrintPage(cmd, f, "leases", leases, next, tables.Leases)
		}),
	}
	ls.Flags().StringVar(&filter.Image, "image", "", "only leases of this `image`")
	ls.Flags().StringVar(&filter.Job, "job", "", "only the lease of this `job`")
	ls.Flags().IntVar(&filter.Limit, "limit", 0, "list at most so many, up to 1000 (default 100)")

	var r client.LeaseRequest
	add := &cobra.Command{
		Use:     "add IMAGE... --ttl TIME",
		Short:   "Keep images from collection for a while",
		Example: "  towline lease add redis:7 --ttl 2h --note 'nightly tests'",
		Args:    command.SomeArguments("IMAGE"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			r.Images = args
			l, err := c.Leases().Add(ctx, r)
			if err != nil {
				return err
			}
			return printLease(f, cmd, l)
		}),
	}
	add.Flags().StringVar(&r.TTL, "ttl", "", "how long, such as 2h: a `time` from 1m to 720h")
	add.Flags().StringVar(&r.Note, "note", "", "what for, as a `text`")

	var ttl string
	renew := &cobra.Command{
		Use:     "renew LEASE --ttl TIME",
		Short:   "Have a lease end after another time from now",
		Example: "  towline lease renew 01J9Z7M3S4W5X6Y7Z8A9B0C1D2 --ttl 4h",
		Args:    command.OneArgument("LEASE"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			l, err := c.Leases().Renew(ctx, args[0], ttl)
			if err != nil {
				return err
			}
			return printLease(f, cmd, l)
		}),
	}
	renew.Flags().StringVar(&ttl, "ttl", "", "how long, such as 2h: a `time` from 1m to 720h")

	rm := &cobra.Command{
		Use:     "rm LEASE...",
		Short:   "End leases",
		Example: "  towline lease rm 01J9Z7M3S4W5X6Y7Z8A9B0C1D2",
		Args:    command.SomeArguments("LEASE"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			for _, id := range args {
				if _, err := c.Leases().End(ctx, id); err != nil {
					return err
				}
				if !f.Quiet {
					fmt.Fprintln(cmd.OutOrStdout(), render.SafeText(id+": ended"))
				}
			}
			return nil
		}),
	}
	all := &cobra.Command{
		Use:   "lease",
		Short: "Keep images from collection for a while: list, add, renew and end leases",
		Example: "  towline lease add redis:7 --ttl 2h\n" +
			"  towline lease",
		Args: command.NoArguments,
		RunE: ls.RunE,
	}
	all.Flags().AddFlagSet(ls.Flags())
	all.AddCommand(ls, add, renew, rm)
	return all
}

// printLease prints a lease: its ID alone with --quiet, for scripts.
func printLease(f *command.Flags, cmd *cobra.Command, l keep.Lease) error {
	out := cmd.OutOrStdout()
	switch {
	case f.JSON:
		return render.NewJSON(out).Encode(l)
	case f.Quiet:
		fmt.Fprintln(out, render.SafeText(l.ID))
		return nil
	}
	return tables.Leases(out, []keep.Lease{l}, time.Now())
}
