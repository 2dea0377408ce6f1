package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/cmd/towline/exit"
)

// usage prints how a command is used, for terminals of 80 columns. A template of
// cobra's would do the same, but a program with text/template in it is 3.5 MB larger:
// the linker then keeps all methods.
func usage(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:")
	if c.Runnable() {
		fmt.Fprintf(&b, "\n  %s", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n  %s [command]", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\n\nExamples:\n%s", c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\n\nAvailable Commands:")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	const columns = 80
	if c.HasAvailableLocalFlags() {
		fmt.Fprintf(&b, "\n\nFlags:\n%s", strings.TrimRight(c.LocalFlags().FlagUsagesWrapped(columns), "\n"))
	}
	if c.HasAvailableInheritedFlags() {
		fmt.Fprintf(&b, "\n\nGlobal Flags:\n%s", strings.TrimRight(c.InheritedFlags().FlagUsagesWrapped(columns), "\n"))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n\nUse \"%s [command] --help\" for more information about a command.", c.CommandPath())
	}
	_, err := fmt.Fprintln(c.OutOrStderr(), b.String())
	return err
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
