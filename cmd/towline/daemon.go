package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/daemon"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller/bolt/database"
)

func newServe() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			// The reader of the log must not stop or end the daemon.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // not Ignore: credential helpers would inherit it
			signal.Ignore(syscall.SIGTTOU)
			log := daemon.NewLog(os.Stderr)
			defer log.Close()
			if err := log.CaptureStderr(); err != nil {
				return printError(log, err)
			}
			config, err := configs.Load(file)
			if err != nil {
				return printError(log, exit.Usage(err, cmd.CommandPath()))
			}
			disableCoreDumps()
			setFallbackRoots()
			return printError(log, daemon.Run(ctx, daemon.Options{Config: config, Log: log, Version: version, Checker: storeChecker()}))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file` (default "+configs.File+", if it exists)")
	return cmd
}

// printError prints the error that ends the daemon, and returns it as one that was printed.
func printError(log io.Writer, err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintln(log, "towline: "+render.SafeText(err.Error()))
	return exit.Printed(err)
}

const checkStore = "check-store"

// newCheckStore is the command by which a daemon has another process check its
// store's file.
func newCheckStore() *cobra.Command {
	return &cobra.Command{
		Use: checkStore + " FILE", Hidden: true, Args: oneArgument("FILE"),
		Run: func(cmd *cobra.Command, args []string) {
			disableCoreDumps() // the file holds what callers asked for
			database.Check(args[0], cmd.OutOrStdout())
		},
	}
}

// storeChecker returns the command line of newCheckStore.
func storeChecker() []string {
	self, _ := os.Executable() // without it the check fails, which is logged
	return []string{self, checkStore}
}
