package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/daemon"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller/bolt/database"
)

func newServe() *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Run the daemon. SIGHUP has it read log.level, rules and registries.credentials\n" +
			"again; it logs which other keys have changed and need a restart. Started on a\n" +
			"terminal, it ends when the terminal is closed.",
		Example: "  towline serve --config /etc/towline/towline.yaml\n" +
			"  towline serve --check && systemctl reload towline",
		Args: command.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return checkConfig(cmd.Context(), file, cmd.OutOrStdout())
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			reload := make(chan os.Signal, 1)
			switch {
			case signal.Ignored(syscall.SIGHUP): // nohup
			case hasTerminal():
				var closed context.CancelFunc
				ctx, closed = signal.NotifyContext(ctx, syscall.SIGHUP)
				defer closed()
			default:
				signal.Notify(reload, syscall.SIGHUP)
				defer signal.Stop(reload)
			}
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
				return printError(log, err)
			}
			disableCoreDumps()
			command.SetFallbackRoots()
			return printError(log, configs.Locate(file, daemon.Run(ctx, daemon.Options{
				Config: config, Log: log, Version: version, Checker: storeChecker(),
				Reload: reload, Load: func() (configs.Config, error) { return configs.Load(file) },
			})))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file` (default "+configs.File+", if it exists)")
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration, and whether the engine answers")
	return cmd
}

// checkConfig checks a configuration without starting the daemon.
func checkConfig(ctx context.Context, file string, out io.Writer) error {
	config, err := configs.Load(file)
	if err != nil {
		return err
	}
	return configs.Locate(file, daemon.Check(ctx, config, out))
}

// hasTerminal reports whether this process gets SIGHUP when its terminal is closed.
func hasTerminal() bool {
	f, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	f.Close()
	return true
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
		Use: checkStore + " FILE", Hidden: true, Args: command.OneArgument("FILE"),
		Run: func(cmd *cobra.Command, args []string) {
			disableCoreDumps() // the file holds what callers asked for
			database.Check(args[0], database.CheckMemory, cmd.OutOrStdout())
		},
	}
}

// storeChecker returns the command line of newCheckStore.
func storeChecker() []string {
	self, _ := os.Executable() // without it the check fails, which is logged
	return []string{self, checkStore}
}
