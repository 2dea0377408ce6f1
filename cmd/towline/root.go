package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/configs"
)

// flags are those that every client command has.
type flags struct {
	host, token string
	tls         client.TLS
	json, quiet bool
}

func newRoot() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:   "towline",
		Short: "Pull images through a Docker engine, proven and watched",
		Long: "Towline runs next to a Docker engine and calls a pull done only when it is\n" +
			"proven. \"towline serve\" is the daemon; the other commands call it.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{err, cmd.CommandPath()}
	})
	p := root.PersistentFlags()
	p.StringVar(&f.host, "host", os.Getenv("TOWLINE_HOST"), "the daemon's `address`: unix:///PATH, http://… or https://… (TOWLINE_HOST)")
	p.StringVar(&f.token, "token", "", "the `token` that a daemon over TCP asks for (TOWLINE_TOKEN)")
	p.StringVar(&f.tls.CA, "tlscacert", os.Getenv("TOWLINE_TLSCACERT"), "the `file` of the authority that the daemon's certificate comes from (TOWLINE_TLSCACERT)")
	p.StringVar(&f.tls.Cert, "tlscert", os.Getenv("TOWLINE_TLSCERT"), "the `file` of a client certificate (TOWLINE_TLSCERT)")
	p.StringVar(&f.tls.Key, "tlskey", os.Getenv("TOWLINE_TLSKEY"), "the `file` of its key (TOWLINE_TLSKEY)")
	p.BoolVar(&f.json, "json", false, "print JSON, for events one a line")
	p.BoolVarP(&f.quiet, "quiet", "q", false, "print errors only")
	root.AddCommand(newServe(), newPull(&f), newRun(&f), newPrewarm(&f), newJobs(&f), newHealth(&f), newToken(), newVersion(&f))
	return root
}

func (f *flags) client() (*client.Client, error) {
	if f.host == "" {
		f.host = configs.Host()
	}
	if f.token == "" {
		f.token = os.Getenv("TOWLINE_TOKEN")
	}
	if strings.HasPrefix(f.host, "https:") {
		trustFallback()
	}
	c, err := client.NewTLS(f.host, f.token, f.tls)
	if err != nil {
		return nil, usageError{err, "towline"}
	}
	return c, nil
}

// usage makes what is wrong with the arguments a usage error.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		return nil
	}
}
