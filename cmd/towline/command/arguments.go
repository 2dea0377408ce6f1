package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/exit"
)

// NoArguments refuses arguments. Those of a command with subcommands are unknown
// commands.
func NoArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && !cmd.HasSubCommands() {
		return exit.Usage(fmt.Errorf("argument %q: %s takes no arguments", args[0], cmd.CommandPath()), cmd.CommandPath())
	}
	if err := cobra.NoArgs(cmd, args); err != nil {
		return exit.Usage(err, cmd.CommandPath())
	}
	return nil
}

// OneArgument asks for exactly one argument.
func OneArgument(name string) cobra.PositionalArgs {
	return cobra.MatchAll(OptionalArgument(name), SomeArguments(name))
}

// OptionalArgument asks for at most one argument.
func OptionalArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return exit.Usage(fmt.Errorf("argument %q: %s takes only one %s", args[1], cmd.CommandPath(), name), cmd.CommandPath())
		}
		return nil
	}
}

// SomeArguments asks for one argument or more.
func SomeArguments(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return exit.Usage(fmt.Errorf("%s is missing", name), cmd.CommandPath())
		}
		return nil
	}
}
