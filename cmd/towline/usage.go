package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/cmd/towline/exit"
)

// noArguments refuses arguments. Those of a command with subcommands are unknown
// commands.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && !cmd.HasSubCommands() {
		return exit.Usage(fmt.Errorf("argument %q: %s takes no arguments", args[0], cmd.CommandPath()), cmd.CommandPath())
	}
	if err := cobra.NoArgs(cmd, args); err != nil {
		return exit.Usage(err, cmd.CommandPath())
	}
	return nil
}

// oneArgument asks for exactly one argument.
func oneArgument(name string) cobra.PositionalArgs {
	return cobra.MatchAll(optionalArgument(name), someArguments(name))
}

// optionalArgument asks for at most one argument.
func optionalArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return exit.Usage(fmt.Errorf("argument %q: %s takes only one %s", args[1], cmd.CommandPath(), name), cmd.CommandPath())
		}
		return nil
	}
}

// someArguments asks for one argument or more.
func someArguments(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return exit.Usage(fmt.Errorf("%s is missing", name), cmd.CommandPath())
		}
		return nil
	}
}

// flagError names the flag that is wrong, and says what to write.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		name, reason := invalid.GetFlag().Name, errors.Unwrap(invalid).Error()
		switch invalid.GetFlag().Value.Type() {
		case "duration":
			reason = fmt.Sprintf("%q is not a duration; write one such as 90s or 30m", invalid.GetValue())
		case "int", "int64":
			reason = fmt.Sprintf("%q is not a whole number", invalid.GetValue())
		}
		err = fmt.Errorf("--%s: %s", name, strings.TrimPrefix(reason, name+": "))
	}
	return exit.Usage(err, cmd.CommandPath())
}
