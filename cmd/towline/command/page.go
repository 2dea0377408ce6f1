package command

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/render"
)

// PrintPage prints a page of a list, as a table or with --json as one document. next is
// the cursor of the next page, "" for the last one: the standard error then says that
// there is more. name is what the list is of, in the plural.
func PrintPage[T any](cmd *cobra.Command, f *Flags, name string, page []T, next string, table func(io.Writer, []T, time.Time) error) error {
	if f.JSON {
		return render.NewJSON(cmd.OutOrStdout()).Encode(map[string]any{name: page, "next": next})
	}
	if err := table(cmd.OutOrStdout(), page, time.Now()); err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "towline: there are more %s; --limit lists up to 1000\n", name)
	}
	return nil
}
