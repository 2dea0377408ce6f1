//go:build man

package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/towline/towline/cmd/towline/command"
)

// generators has the command that writes man pages. What it is made of is not in the
// usual binary.
func generators() []*cobra.Command {
	return []*cobra.Command{{
		Use: "man DIRECTORY", Hidden: true, Args: command.OneArgument("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true // it has the day of the build
			date := time.Unix(0, 0).UTC()
			if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				date = time.Unix(seconds, 0).UTC()
			}
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Date: &date, Source: "Towline", Manual: "Towline"}, args[0])
		},
	}}
}
