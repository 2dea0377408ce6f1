package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Create access tokens for callers over TCP",
		Example: "  towline token new ci --scope read,pull --file /etc/towline/tokens.yaml",
		Args:    command.NoArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenNew())
	return cmd
}

func newTokenNew() *cobra.Command {
	var file string
	var scopes []string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Create a token and print it once",
		Long: "Create a token and print it. This is the only time that it is printed: a token\n" +
			"file has only its hash. --file adds it to the daemon's auth.token_file; a running\n" +
			"daemon reads the file again by itself.\n\n" +
			"Scopes:\n" +
			"  read   see jobs, events, output and metrics\n" +
			"  pull   pull images\n" +
			"  run    run programs\n" +
			"  admin  everything",
		Example: "  towline token new ci --scope read,pull --file /etc/towline/tokens.yaml",
		Args:    command.OneArgument("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var named []auth.Scope
			for _, s := range scopes {
				named = append(named, auth.Scope(strings.TrimSpace(s)))
			}
			var until time.Time
			if cmd.Flags().Changed("expires") {
				if expires < time.Second {
					return exit.Usage(fmt.Errorf("--expires: %s is too short; write a duration of 1s or more, such as 720h", expires), cmd.CommandPath())
				}
				until = time.Now().Add(expires)
			}
			token, err := auth.MakeToken(args[0], named, until)
			if err != nil {
				return exit.Usage(err, cmd.CommandPath())
			}
			if file == "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "# Add this to the daemon's auth.token_file. The token itself is the last line.\n%s", token.File())
			} else if err := token.AddTo(file); err != nil {
				return fmt.Errorf("token: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), token.Token)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "token `file` to add it to; created if it does not exist")
	f.StringSliceVar(&scopes, "scope", []string{"read", "pull"}, "`scopes`, separated by commas: read, pull, run, admin")
	f.DurationVar(&expires, "expires", 0, "how long the token is valid, such as 720h (default: without end)")
	return cmd
}
