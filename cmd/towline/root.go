package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/fleet"
	"github.com/towline/towline/cmd/towline/keep"
	"github.com/towline/towline/cmd/towline/pull"
)

func newRoot() *cobra.Command {
	var f command.Flags
	var showVersion bool
	root := &cobra.Command{
		Use:   "towline",
		Short: "Pull images through a Docker engine, with proof",
		Long: "Towline pulls images through a Docker engine. A pull succeeds only when the\n" +
			"image is proven to be complete. \"towline serve\" runs the daemon; all other\n" +
			"commands call it.\n\n" +
			"Exit codes:\n" +
			"  0    done\n" +
			"  1    failed\n" +
			"  2    wrong usage\n" +
			"  3    failed, and will fail again: not found, denied, forbidden, wrong platform\n" +
			"       or invalid request\n" +
			"  4    failed; try again later\n" +
			"  5    no daemon answers\n" +
			"  130  interrupted\n" +
			"\"towline run\" exits with the code of its program.",
		Example: "  towline serve\n" +
			"  towline pull alpine:3.20 redis:7\n" +
			"  towline prewarm -f compose.yaml",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          command.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				return printVersion(&f, cmd.OutOrStdout())
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVar(&showVersion, "version", false, "print the version of this binary")
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.SetHelpFunc(help)
	p := root.PersistentFlags()
	p.StringVar(&f.Host, "host", os.Getenv("TOWLINE_HOST"), "daemon `address`: unix:///PATH, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT [TOWLINE_HOST]")
	p.StringVar(&f.Token, "token", "", "access `token` for a daemon over TCP [TOWLINE_TOKEN]")
	p.StringVar(&f.TLS.CA, "tlscacert", os.Getenv("TOWLINE_TLSCACERT"), "PEM `file` of the authority that signed the daemon's certificate [TOWLINE_TLSCACERT]")
	p.StringVar(&f.TLS.Cert, "tlscert", os.Getenv("TOWLINE_TLSCERT"), "PEM `file` of the client certificate [TOWLINE_TLSCERT]")
	p.StringVar(&f.TLS.Key, "tlskey", os.Getenv("TOWLINE_TLSKEY"), "PEM `file` of the client certificate's key [TOWLINE_TLSKEY]")
	p.BoolVar(&f.JSON, "json", false, "print JSON: one event per line, or one document")
	p.BoolVarP(&f.Quiet, "quiet", "q", false, "print only errors, and images that were pulled as NAME@DIGEST")
	root.AddCommand(newServe(), pull.New(&f), pull.NewRun(&f), pull.NewPrewarm(&f), newJobs(&f), keep.NewSets(&f), keep.NewLease(&f), keep.NewImages(&f), keep.NewCollect(&f), fleet.New(&f), newQueue(&f), newHealth(&f), newDoctor(&f), newExplain(), pull.NewLock(&f), newToken(), newMirror(), newVersion(&f), newCompletion(), newCheckStore(), newPluginMetadata())
	root.AddCommand(generators()...)
	command.CompleteChoices(root)
	return root
}
