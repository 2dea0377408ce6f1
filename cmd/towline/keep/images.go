package keep

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller/keep"
)

// NewImages returns the command images.
func NewImages(f *command.Flags) *cobra.Command {
	var filter keep.ImageFilter
	var collectable, kept bool
	images := &cobra.Command{
		Use:   "images [IMAGE]",
		Short: "List the engine's images, with what keeps them",
		Long: "List the engine's images: what each would free, who brought it, when it was last\n" +
			"used, and why it stays. IMAGE is a name with or without a tag, the beginning of an\n" +
			"ID, or a pattern with * and ?.",
		Example: "  towline images --collectable\n" +
			"  towline images 'registry.example.com/*'",
		Args: command.OptionalArgument("IMAGE"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			if collectable != kept {
				filter.Collectable = &collectable
			}
			if len(args) > 0 {
				filter.Image = args[0]
			}
			return listImages(ctx, f, cmd, c, filter)
		}),
	}
	images.Flags().StringVar((*string)(&filter.Owner), "owner", "", "only images of this `owner`: towline or other")
	images.Flags().StringVar(&filter.Set, "set", "", "only images of this `set`")
	images.Flags().BoolVar(&collectable, "collectable", false, "only images that may be collected")
	images.Flags().BoolVar(&kept, "kept", false, "only images that may not be collected")
	images.Flags().IntVar(&filter.Limit, "limit", 0, "list at most so many (default all)")
	images.MarkFlagsMutuallyExclusive("collectable", "kept")
	return images
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
		images, next, err := c.Images(ctx, filter)
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
	return render.KeptImages(cmd.OutOrStdout(), all, time.Now())
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
			done, err := c.Collect(ctx, plan)
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
			return render.Collection(out, done)
		}),
	}
	collect.Flags().BoolVar(&plan, "plan", false, "print what would be removed, and remove nothing")
	return collect
}
