package keep

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// NewImages returns the command images.
func NewImages(f *command.Flags) *cobra.Command {
	var filter keep.ImageFilter
	var collectable, kept, history bool
	images := &cobra.Command{
		Use:   "images [IMAGE]",
		Short: "List the engine's images, with what keeps them",
		Long: "List the engine's images: what each would free, who brought it, when it was last\n" +
			"used, and why it stays. IMAGE is a name with or without a tag, the beginning of an\n" +
			"ID, or a pattern with * and ?.\n\n" +
			"With --history, list instead what has become of images, newest first: which a\n" +
			"collection removed, and which of a set somebody else removed.",
		Example: "  towline images --collectable\n" +
			"  towline images 'registry.example.com/*'\n" +
			"  towline images --history --limit 20",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cmd.ValidateFlagGroups(); err != nil {
				return exit.Usage(exclusive(err), cmd.CommandPath())
			}
			if filter.Limit < 0 {
				return exit.Usage(fmt.Errorf("--limit: %d is below 0, which is for all", filter.Limit), cmd.CommandPath())
			}
			return command.OptionalArgument("IMAGE")(cmd, args)
		},
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			if collectable != kept {
				filter.Collectable = &collectable
			}
			if len(args) > 0 {
				filter.Image = args[0]
			}
			if history {
				return listChanges(ctx, f, cmd, c, keep.HistoryFilter{Image: filter.Image, Limit: filter.Limit})
			}
			return listImages(ctx, f, cmd, c, filter)
		}),
	}
	images.Flags().StringVar((*string)(&filter.Owner), "owner", "", "only images of this `owner`: towline or other")
	images.Flags().StringVar(&filter.Set, "set", "", "only images of this `set`")
	images.Flags().BoolVar(&collectable, "collectable", false, "only images that may be collected")
	images.Flags().BoolVar(&kept, "kept", false, "only images that may not be collected")
	images.Flags().IntVar(&filter.Limit, "limit", 0, "list at most so many (default all)")
	images.Flags().BoolVar(&history, "history", false, "list what has become of images; IMAGE is then a whole name")
	images.MarkFlagsMutuallyExclusive("collectable", "kept", "history")
	images.MarkFlagsMutuallyExclusive("owner", "history")
	images.MarkFlagsMutuallyExclusive("set", "history")
	return images
}

// groupSet is how cobra names the flags of a group of which only one may be set.
var groupSet = regexp.MustCompile(`\[([^\]]*)\] were all set$`)

// exclusive says in plain words which flags don't go together.
func exclusive(err error) error {
	flags := groupSet.FindStringSubmatch(err.Error())
	if flags == nil {
		return err
	}
	return fmt.Errorf("--%s don't go together; set one of them", strings.Join(strings.Fields(flags[1]), " and --"))
}

// listImages prints images: as many as the filter's limit, or all.
func listImages(ctx context.Context, f *command.Flags, cmd *cobra.Command, c *client.Client, filter keep.ImageFilter) error {
	const page = 1000
	all, limit := []keep.Image{}, filter.Limit
	for {
		filter.Limit = page
		if limit > 0 {
			filter.Limit = min(limit-len(all), page)
		}
		images, next, err := c.Images().List(ctx, filter)
		if err != nil {
			return err
		}
		all = append(all, images...)
		if next == "" || limit > 0 && len(all) >= limit {
			break
		}
		filter.Cursor = next
	}
	if f.JSON {
		return render.NewJSON(cmd.OutOrStdout()).Encode(map[string]any{"images": all})
	}
	return tables.Images(cmd.OutOrStdout(), all, time.Now())
}

// listChanges prints what has become of images: as many as the filter's limit, or all.
func listChanges(ctx context.Context, f *command.Flags, cmd *cobra.Command, c *client.Client, filter keep.HistoryFilter) error {
	all := []puller.Event{}
	limit := filter.Limit
	for {
		filter.Limit = 1000
		if limit > 0 {
			filter.Limit = min(limit-len(all), filter.Limit)
		}
		changes, next, err := c.Images().History(ctx, filter)
		if err != nil {
			return err
		}
		all = append(all, changes...)
		if next == "" || limit > 0 && len(all) >= limit {
			break
		}
		filter.Cursor = next
	}
	if f.JSON {
		return render.NewJSON(cmd.OutOrStdout()).Encode(map[string]any{"events": all})
	}
	return tables.Changes(cmd.OutOrStdout(), all)
}

// NewCollect returns the command collect.
func NewCollect(f *command.Flags) *cobra.Command {
	var plan bool
	collect := &cobra.Command{
		Use:   "collect",
		Short: "Remove images that nothing needs",
		Long: "Remove images that nothing needs until the engine's disk is below keep.low, and\n" +
			"print why each other one stays. Where keep.collect is off, there is only the plan.",
		Example: "  towline collect --plan",
		Args:    command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			done, err := c.Images().Collect(ctx, plan)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case f.JSON:
				return render.NewJSON(out).Encode(done)
			case f.Quiet:
				for _, r := range done.Removed {
					fmt.Fprintln(out, render.SafeText(r.ID))
				}
				return nil
			}
			return tables.Collection(out, done)
		}),
	}
	collect.Flags().BoolVar(&plan, "plan", false, "print what would be removed, and remove nothing")
	return collect
}
