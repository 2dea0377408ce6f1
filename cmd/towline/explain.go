package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/explain"
	"github.com/towline/towline/puller"
)

func newExplain() *cobra.Command {
	var kinds []string
	for _, kind := range puller.ErrorKinds() {
		kinds = append(kinds, string(kind))
	}
	return &cobra.Command{
		Use:   "explain [KIND]",
		Short: "Say what a kind of error means, and what mends it",
		Long: "Say what a kind of error means, what Towline has done about it already, what to look\n" +
			"at, and what mends it. Without KIND, list the kinds.",
		Example: "  towline explain\n" +
			"  towline explain denied",
		Args:      command.OptionalArgument("KIND"),
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return explain.List(cmd.OutOrStdout())
			}
			kind := puller.ErrorKind(args[0])
			if explain.Section(kind) == "" {
				return exit.Usage(fmt.Errorf("%q is no kind of error; %q lists them", puller.Clip(args[0]), "towline explain"), cmd.CommandPath())
			}
			return explain.Write(cmd.OutOrStdout(), kind)
		},
	}
}
