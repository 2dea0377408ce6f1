package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
)

func newCompletion() *cobra.Command {
	var plain bool
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for a shell",
		Long: "Print a completion script for bash, zsh, fish or powershell. The shell must load\n" +
			"it at its start.",
		Example: "  towline completion bash > /etc/bash_completion.d/towline\n" +
			"  towline completion zsh > \"${fpath[1]}/_towline\"\n" +
			"  towline completion fish > ~/.config/fish/completions/towline.fish\n" +
			"  towline completion powershell | Out-String | Invoke-Expression",
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return command.OneArgument("SHELL")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, !plain)
			case "zsh":
				if plain {
					return root.GenZshCompletionNoDesc(out)
				}
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, !plain)
			case "powershell":
				if plain {
					return root.GenPowerShellCompletion(out)
				}
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return exit.Usage(fmt.Errorf("SHELL: %q is not known; use bash, zsh, fish or powershell", args[0]), cmd.CommandPath())
		},
	}
	cmd.Flags().BoolVar(&plain, "no-descriptions", false, "leave out the descriptions of commands and flags")
	return cmd
}
