package command

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/api/client"
)

// completeLimit is how long a completion may take.
const completeLimit = 2 * time.Second

// Complete completes arguments by names of the daemon, without those that are there.
func Complete(f *Flags, names func(context.Context, *client.Client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		c, err := f.Client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		return slices.DeleteFunc(names(ctx, c), func(name string) bool {
			name, _, _ = strings.Cut(name, "\t") // from what describes it
			return slices.Contains(args, name)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// choices finds the values of a flag at the end of its usage: ": a, b or c (default a)".
var choices = regexp.MustCompile(`: ([a-z]+(?:, [a-z]+)*(?:,| or) [a-z]+)(?: \([^)]*\))?$`)

// CompleteChoices completes the flags of a command, and of those below it, whose usage lists
// their values. Shells offer files for other flags, but for no argument: what takes a file as
// one has a completion of its own.
func CompleteChoices(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if found := choices.FindStringSubmatch(flag.Usage); found != nil {
			values := strings.Split(strings.ReplaceAll(found[1], " or ", ", "), ", ")
			// The only error is a flag that has a completion.
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	})
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, c := range cmd.Commands() {
		CompleteChoices(c)
	}
}
