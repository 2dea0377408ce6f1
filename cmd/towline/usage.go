package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/cmd/towline/exit"
)

// columns are those of a narrow terminal. Help fits it.
const columns = 80

// help prints what a command does and how it is used.
func help(c *cobra.Command, _ []string) {
	fmt.Fprintf(c.OutOrStdout(), "%s\n\n", fill(cmp.Or(c.Long, c.Short), 0))
	c.SetOut(c.OutOrStdout())
	usage(c)
}

// fill breaks the lines of each paragraph anew where one of them is too long. Lines that begin
// with a space stay as they are. Lines after the first are indented.
func fill(text string, indent int) string {
	var all []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		lines := strings.Split(paragraph, "\n")
		long := func(line string) bool { return utf8.RuneCountInString(line)+indent > columns }
		if !slices.ContainsFunc(lines, long) || slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, " ") }) {
			all = append(all, paragraph)
			continue
		}
		line := ""
		lines = lines[:0]
		for _, word := range strings.Fields(paragraph) {
			if line != "" && long(line+" "+word) {
				lines = append(lines, line)
				line = ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		all = append(all, strings.Join(append(lines, line), "\n"+strings.Repeat(" ", indent)))
	}
	return strings.Join(all, "\n\n")
}

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
		longest := 0
		shown := func(sub *cobra.Command) bool { return sub.IsAvailableCommand() || sub.Name() == "help" }
		for _, sub := range c.Commands() {
			if shown(sub) {
				longest = max(longest, len(sub.Name()))
			}
		}
		for _, sub := range c.Commands() {
			if shown(sub) {
				fmt.Fprintf(&b, "\n  %-*s  %s", longest, sub.Name(), fill(sub.Short, longest+4))
			}
		}
	}
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
