//go:build !man

package main

import "github.com/spf13/cobra"

// generators is empty but in the build that writes man pages.
func generators() []*cobra.Command { return nil }
