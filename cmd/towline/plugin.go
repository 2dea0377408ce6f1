package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
)

// pluginMetadata is the command by which docker asks its plugins what they are, and
// pluginBinary the name under which it finds this one (docker/cli, cli-plugins/manager).
const (
	pluginMetadata = "docker-cli-plugin-metadata"
	pluginBinary   = "docker-towline"
)

// newPluginMetadata is the command that makes this binary a plugin of Docker's command
// line.
func newPluginMetadata() *cobra.Command {
	return &cobra.Command{
		Use: pluginMetadata, Hidden: true, Args: command.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{
				"SchemaVersion": "0.1.0", "Vendor": "Towline", "Version": version, "ShortDescription": "Pull images with proof",
				"URL": "https://github.com/towline/towline",
			})
		},
	}
}

// asPlugin returns the arguments of "docker towline ARGS": docker calls the plugin with
// all of its own, its flags and "towline" among them. ok is false where this is no
// plugin. Docker's flags are about the engine, which the daemon knows.
func asPlugin(args []string) (own []string, ok bool) {
	if len(args) == 0 || !strings.HasPrefix(filepath.Base(args[0]), pluginBinary) {
		return nil, false
	}
	args = args[1:]
	i := slices.Index(args, "towline")
	if i < 0 {
		return args, true // docker asks for the metadata
	}
	before, own := args[:i], args[i+1:]
	switch {
	case slices.Contains(before, "help"):
		own = append(slices.Clone(own), "--help")
	case slices.Contains(before, cobra.ShellCompRequestCmd):
		own = append([]string{cobra.ShellCompRequestCmd}, own...)
	case slices.Contains(before, cobra.ShellCompNoDescRequestCmd):
		own = append([]string{cobra.ShellCompNoDescRequestCmd}, own...)
	}
	return own, true
}

// newProgram returns the root command for the arguments of this process.
func newProgram() *cobra.Command {
	root := newRoot()
	if args, ok := asPlugin(os.Args); ok {
		root.SetArgs(args)
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "docker towline"}
		pluginExamples(root)
	}
	return root
}

// example finds this program in examples.
var example = regexp.MustCompile(`(^|\s)towline `)

// pluginExamples has the examples of a command, and of those below it, call the plugin.
func pluginExamples(cmd *cobra.Command) {
	cmd.Example = example.ReplaceAllString(cmd.Example, "${1}docker towline ")
	for _, c := range cmd.Commands() {
		pluginExamples(c)
	}
}
