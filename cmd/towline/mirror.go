package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller/mirror/hosts"
)

func newMirror() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mirror",
		Short:   "Undo what the accelerator has set up at the engine",
		Example: "  towline mirror remove",
		Args:    command.NoArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMirrorRemove())
	return cmd
}

func newMirrorRemove() *cobra.Command {
	var file, dir string
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove the hosts.toml that the daemon wrote for the engine",
		Long: "Remove the file _default/hosts.toml that the daemon wrote into mirror.hosts_dir.\n" +
			"A file that the daemon did not write stays. Do this before Towline is uninstalled,\n" +
			"with the daemon stopped: it writes the file again when it starts.",
		Example: "  towline mirror remove\n  towline mirror remove --dir /etc/docker/certs.d",
		Args:    command.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				config, err := configs.Load(file)
				if err != nil {
					return exit.Usage(err, cmd.CommandPath())
				}
				if dir = config.Mirror.HostsDir; dir == "" {
					return exit.Usage(fmt.Errorf("--dir: missing, and the configuration has no mirror.hosts_dir; name the directory, such as /etc/docker/certs.d"), cmd.CommandPath())
				}
			}
			removed, err := hosts.Remove(dir)
			switch {
			case err != nil:
				return err
			case removed:
				fmt.Fprintln(cmd.OutOrStdout(), "removed "+hosts.File(dir))
			default:
				fmt.Fprintln(cmd.OutOrStdout(), "there is no "+hosts.File(dir))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file` of the daemon (default "+configs.File+", if it exists)")
	cmd.Flags().StringVar(&dir, "dir", "", "the `directory` itself, instead of mirror.hosts_dir")
	return cmd
}
