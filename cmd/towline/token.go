package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/auth"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make tokens for callers over TCP",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
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
		Short: "Make a token, and print it this once",
		Long: "Makes a token and prints it; a token file has only its hash. With --file it is\n" +
			"listed there, and a daemon whose auth.token_file that is knows it at once.\n\n" +
			"Scopes: read (see jobs, events, output, metrics), pull (have images pulled),\n" +
			"run (have programs run), admin (everything).",
		Example: "  towline token new ci --scope read,pull --file /etc/towline/tokens.yaml",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var named []auth.Scope
			for _, s := range scopes {
				named = append(named, auth.Scope(strings.TrimSpace(s)))
			}
			var until time.Time
			if cmd.Flags().Changed("expires") {
				if expires < time.Second {
					return usageError{fmt.Errorf("--expires: %s is no time to come; write a duration such as 720h", expires), cmd.CommandPath()}
				}
				until = time.Now().Add(expires)
			}
			token, err := auth.MakeToken(args[0], named, until)
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			if file == "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "# the token follows; in the daemon's auth.token_file write:\n%s", token.File())
			} else if err := token.AddTo(file); err != nil {
				return fmt.Errorf("token: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), token.Token)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "the token `file` to list it in, made if it is not there")
	f.StringSliceVar(&scopes, "scope", []string{"read", "pull"}, "what its holder may do: `scopes`, with commas between")
	f.DurationVar(&expires, "expires", 0, "how long it is good for (default for ever)")
	return cmd
}
