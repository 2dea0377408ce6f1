package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/towline/towline/puller/bolt"
)

const checkStore = "check-store"

// newCheckStore is the command by which a daemon has another process check its
// store's file.
func newCheckStore() *cobra.Command {
	return &cobra.Command{
		Use: checkStore + " FILE", Hidden: true, Args: oneArgument("FILE"),
		Run: func(cmd *cobra.Command, args []string) {
			disableCoreDumps() // the file holds what callers asked for
			bolt.Check(args[0], cmd.OutOrStdout())
		},
	}
}

// storeChecker returns the command line of newCheckStore.
func storeChecker() []string {
	self, _ := os.Executable() // without it the check fails, which is logged
	return []string{self, checkStore}
}
