package fleet

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller/fleet"
)

func newInvite(f *command.Flags) *cobra.Command {
	var r client.InviteRequest
	var path string
	invite := &cobra.Command{
		Use:   "invite HOST",
		Short: "Make the file that a host needs to join the fleet, once",
		Long: "Make credentials for a host, and print the file that fleet.creds of the host names.\n" +
			"It is told only this once. The daemon must run the fleet's NATS server\n" +
			"(fleet.embedded). The labels and the zone count, and not what the host says of\n" +
			"itself.",
		Example: "  towline fleet invite build-7 --label role=ci --out build-7.creds",
		Args:    command.OneArgument("HOST"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			r.Host = args[0]
			var file *os.File
			if path != "" { // first: the credentials are told once
				var err error
				if file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
					return err
				}
				defer file.Close()
			}
			i, err := c.Fleet().Invite(ctx, r)
			if err != nil {
				if file != nil {
					os.Remove(path)
				}
				return err
			}
			if file != nil {
				if _, err := io.WriteString(file, i.Creds); err != nil {
					return err
				}
				if err := file.Close(); err != nil {
					return err
				}
				i.Creds = ""
			}
			return printInvitation(f, cmd, i, path)
		}),
	}
	invite.Flags().StringToStringVar(&r.Labels, "label", nil, "give the host the label `NAME=VALUE`; may be repeated")
	invite.Flags().StringVar(&r.Zone, "zone", "", "put the host into this `zone`")
	invite.Flags().BoolVar(&r.Replace, "replace", false, "end the credentials that the host was invited with before")
	invite.Flags().BoolVar(&r.Controller, "controller", false, "let the host change the fleet too")
	invite.Flags().StringVar(&path, "out", "", "write the credentials into this new `file`, and do not print them")
	invite.MarkFlagFilename("out")
	return invite
}

// credsPath is where what is printed has the credentials.
const credsPath = "/etc/towline/fleet.creds"

// printInvitation prints the credentials, unless they are in the file at path, and on the
// standard error what to do with them.
func printInvitation(f *command.Flags, cmd *cobra.Command, i fleet.Invitation, path string) error {
	out := cmd.OutOrStdout()
	if f.JSON {
		return render.NewJSON(out).Encode(i)
	}
	if !f.Quiet {
		what := "this"
		if path != "" {
			what = path
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "towline: on %s, make %s the file %s, for its owner alone, and set in towline.yaml:\nfleet: {name: %s, url: %q, creds: %s}\n",
			render.SafeText(i.Host), render.SafeText(what), credsPath, render.SafeText(i.Fleet), render.SafeText(i.URL), credsPath)
	}
	_, err := fmt.Fprint(out, safeLines(i.Creds))
	return err
}

// safeLines makes a text of several lines safe for a terminal.
func safeLines(text string) string {
	var safe []byte
	for line := range strings.Lines(text) {
		safe = append(safe, render.SafeText(strings.TrimRight(line, "\r\n"))+"\n"...)
	}
	return string(safe)
}

func newUninvite(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:     "uninvite HOST...",
		Short:   "Withdraw the credentials of hosts, and forget the hosts",
		Example: "  towline fleet uninvite build-7",
		Args:    command.SomeArguments("HOST"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			for _, id := range args {
				if _, err := c.Fleet().RemoveHost(ctx, id); err != nil {
					return err
				}
				if !f.Quiet {
					fmt.Fprintln(cmd.OutOrStdout(), render.SafeText(id+": removed from the fleet"))
				}
			}
			return nil
		}),
		ValidArgsFunction: completeHosts(f),
	}
}
