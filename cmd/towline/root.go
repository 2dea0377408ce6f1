package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
)

// flags are those of every client command.
type flags struct {
	host, token string
	tls         client.TLS
	json, quiet bool
	// noCredentials keeps the caller's logins from the daemon.
	noCredentials bool
}

func newRoot() *cobra.Command {
	var f flags
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
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				return f.printVersion(cmd.OutOrStdout())
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVar(&showVersion, "version", false, "print the version of this binary")
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	p := root.PersistentFlags()
	p.StringVar(&f.host, "host", os.Getenv("TOWLINE_HOST"), "daemon `address`: unix:///PATH, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT [TOWLINE_HOST]")
	p.StringVar(&f.token, "token", "", "access `token` for a daemon over TCP [TOWLINE_TOKEN]")
	p.StringVar(&f.tls.CA, "tlscacert", os.Getenv("TOWLINE_TLSCACERT"), "PEM `file` of the authority that signed the daemon's certificate [TOWLINE_TLSCACERT]")
	p.StringVar(&f.tls.Cert, "tlscert", os.Getenv("TOWLINE_TLSCERT"), "PEM `file` of the client certificate [TOWLINE_TLSCERT]")
	p.StringVar(&f.tls.Key, "tlskey", os.Getenv("TOWLINE_TLSKEY"), "PEM `file` of the client certificate's key [TOWLINE_TLSKEY]")
	p.BoolVar(&f.json, "json", false, "print JSON: one event per line, or one document")
	p.BoolVarP(&f.quiet, "quiet", "q", false, "print only errors, and images that were pulled as NAME@DIGEST")
	root.AddCommand(newServe(), newPull(&f), newRun(&f), newPrewarm(&f), newJobs(&f), newSets(&f), newLease(&f), newImages(&f), newCollect(&f), newHealth(&f), newDoctor(&f), newLock(&f), newToken(), newMirror(), newVersion(&f), newCompletion(), newCheckStore(), newPluginMetadata())
	root.AddCommand(generators()...)
	return root
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

// client returns a client of the daemon that the flags and the environment name.
func (f *flags) client() (*client.Client, error) {
	if f.host == "" {
		f.host = client.Host()
	}
	// As Docker's: tcp:// is TLS where files for it are named.
	if address, ok := strings.CutPrefix(f.host, "tcp://"); ok {
		f.host = "http://" + address
		if f.tls != (client.TLS{}) {
			f.host = "https://" + address
		}
	}
	if f.token == "" {
		f.token = os.Getenv("TOWLINE_TOKEN")
	}
	if strings.HasPrefix(f.host, "https:") {
		setFallbackRoots()
	}
	c, err := client.NewTLS(f.host, f.token, f.tls)
	if err != nil {
		return nil, exit.Usage(err, "towline")
	}
	return c, nil
}

// display returns what shows jobs on out. images are those that are going to be asked
// for, in their order.
func (f *flags) display(out io.Writer, images ...string) render.Display {
	switch {
	case f.json:
		return render.JSONLines(out)
	case f.quiet:
		return render.References(out, images...)
	}
	return render.New(out, images...)
}
