// Package pull has the commands that have images pulled: pull, prewarm, run and lock.
package pull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/follow"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// New returns the command pull.
func New(f *command.Flags) *cobra.Command {
	var r client.PullRequest
	var retries int
	cmd := &cobra.Command{
		Use:   "pull IMAGE...",
		Short: "Pull images and wait until they are proven complete",
		Long: "Pull images and wait until they are proven complete. Several images are pulled\n" +
			"at the same time, as jobs of their own. Ctrl-C cancels them.",
		Example: "  towline pull alpine:3.20\n" +
			"  towline pull --platform linux/arm64 --policy always ghcr.io/team/app:v1",
		Args: command.SomeArguments("IMAGE"),
		RunE: func(cmd *cobra.Command, images []string) error {
			if cmd.Flags().Changed("retries") {
				r.Retries = &retries
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, stop := follow.Interruptible(cmd.Context())
			defer stop()
			full := make([]string, len(images))
			for i, image := range images {
				full[i] = command.FullName(image)
			}
			own := logins(ctx, f, full, cmd.ErrOrStderr())
			return own.Explain(All(ctx, c, r, full, own.Sent, f.Display(cmd.OutOrStdout(), full...)))
		},
	}
	pullFlags(cmd, &r, &retries)
	credentialsFlag(f, cmd)
	return cmd
}

// pullFlags defines the flags of pull and prewarm that apply to each image.
func pullFlags(cmd *cobra.Command, r *client.PullRequest, retries *int) {
	imageFlags(cmd, &r.Platform, &r.Policy, &r.Strict, &r.Accelerate)
	flags := cmd.Flags()
	flags.StringVar((*string)(&r.Priority), "priority", "", "job `priority`: high, normal or low (default normal)")
	flags.DurationVar((*time.Duration)(&r.Timeout), "timeout", 0, "time limit for each image, such as 30m (default: the daemon's pull.timeout)")
	leaseFlag(cmd, &r.Lease)
	flags.IntVar(retries, "retries", 0, "how often to try again (default: the daemon's pull.retries)")
}

func leaseFlag(cmd *cobra.Command, lease *string) {
	cmd.Flags().StringVar(lease, "lease", "", "keep the image from collection for this `time` after its pull, such as 2h")
}

// imageFlags defines the flags of pull, prewarm and run that say which image is
// wanted.
func imageFlags(cmd *cobra.Command, platform *string, policy *puller.Policy, strict *bool, accelerate *puller.Accelerate) {
	flags := cmd.Flags()
	flags.StringVar(platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "`os/arch[/variant]`, such as linux/arm64 [DOCKER_DEFAULT_PLATFORM]")
	flags.StringVar((*string)(policy), "policy", "", "pull `policy`: always, missing, never or newer (default: the daemon's pull.policy)")
	flags.StringVar((*string)(accelerate), "accelerate", "", "whether Towline fetches for the engine, with more connections: auto or off (default auto)")
	flags.BoolVar(strict, "strict", false, "with --policy newer: fail if the registry does not answer, even if the image is present")
}

// All pulls images at the same time. The daemon limits how many run at once.
// When ctx ends, it cancels the jobs that run.
func All(ctx context.Context, c *client.Client, r client.PullRequest, images []string, logins []puller.Credentials, d render.Display) error {
	var mu sync.Mutex
	var failed exit.Failures
	var work sync.WaitGroup
	for _, image := range images {
		r := r // each has its own
		r.Image, r.Credentials = image, credentialsOf(logins, image)
		work.Go(func() {
			submit := func(ctx context.Context) (puller.Job, error) { return c.Submit(ctx, r) }
			err := follow.Job(ctx, c, submit, func(j *puller.Job, e puller.Event) {
				mu.Lock()
				defer mu.Unlock()
				d.Show(j, e)
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				d.Refuse(image, err) // unless it has been accepted
				failed = append(failed, err)
			}
		})
	}
	work.Wait()
	d.Close()
	if ctx.Err() != nil {
		return follow.Interrupted(os.Stderr, errors.Join(failed...))
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return failed[0]
	}
	printed := make(map[string]bool)
	for _, err := range failed {
		if text := render.SafeText(err.Error()); !printed[text] { // several have one where there is no daemon
			printed[text] = true
			fmt.Fprintln(os.Stderr, "towline: "+text)
		}
	}
	return failed
}
