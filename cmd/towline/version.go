package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func newVersion(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this binary",
		Example: "  towline version --json",
		Args:    command.NoArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return printVersion(f, cmd.OutOrStdout()) },
	}
}

func printVersion(f *command.Flags, out io.Writer) error {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if f.JSON {
		return json.NewEncoder(out).Encode(map[string]string{"version": version, "commit": commit, "go": runtime.Version()})
	}
	if commit != "" {
		commit = fmt.Sprintf(" (%.12s)", commit)
	}
	_, err := fmt.Fprintf(out, "towline %s%s, %s\n", version, commit, runtime.Version())
	return err
}
