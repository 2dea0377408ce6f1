package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep/setfile"
)

// file is what a file says of a set.
type file struct {
	Name     string   `json:"name"`     // "" for that of the file
	Profiles []string `json:"profiles"` // of a Compose file
	fleet.SetRequest
}

func newApply(f *command.Flags) *cobra.Command {
	var path string
	var r fleet.SetRequest
	var unprotected, wait bool
	var limit time.Duration
	apply := &cobra.Command{
		Use:   "apply {-f FILE [SET] | SET IMAGE...}",
		Short: "Have all hosts with some labels get the same images",
		Long: "Make or replace a set of the fleet. Its tags are resolved to digests once, and each\n" +
			"host with the labels pulls these, in the waves of the rollout.\n\n" +
			"FILE is a Compose file, with the section x-towline for what is not in one, or a list:\n" +
			"{name, images, hosts, rollout: {canary, wave, max_failures, pause}, schedule,\n" +
			"timezone, jitter, window, policy, protect, priority, platform}. Flags override it.\n" +
			"The set has the name that is given, that of the file's name field, or that of the\n" +
			"file.\n\n" +
			"With --wait, the exit code is 0 only if each host that is not away has proven all\n" +
			"images. Ctrl-C ends the command, and not the rollout.",
		Example: "  towline fleet apply app registry.example.com/app:v7 --hosts role=ci --wait\n" +
			"  towline fleet apply -f compose.yaml shop --canary 1 --wave 10% --pause 1m",
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			wanted, err := wantedSet(ctx, f, cmd, path, args)
			if err != nil {
				return err
			}
			override(&wanted.SetRequest, r)
			if unprotected {
				wanted.Protect = new(false)
			}
			if limit != 0 && !wait {
				return exit.Usage(errors.New("--timeout is for --wait"), cmd.CommandPath())
			}
			s, err := c.Fleet().PutSet(ctx, wanted.Name, client.FleetSetOf(wanted.SetRequest))
			if err != nil {
				return err
			}
			if !wait {
				return printSet(f, cmd.OutOrStdout(), s, false)
			}
			return waitFor(ctx, f, cmd, c, s, limit)
		}),
	}
	flags := apply.Flags()
	flags.StringVarP(&path, "file", "f", "", "`file` of the set, or - for the standard input")
	flags.StringToStringVar(&r.Hosts, "hosts", nil, "only hosts with the label `NAME=VALUE`; may be repeated (default: all hosts)")
	flags.StringVar(&r.Rollout.Canary, "canary", "", "how `many` hosts the first wave has: a number or a share such as 5%")
	flags.StringVar(&r.Rollout.Wave, "wave", "", "how `many` hosts each further wave has (default: all)")
	flags.StringVar(&r.Rollout.MaxFailures, "max-failures", "", "how `many` hosts may fail before the rollout stops (default: any number)")
	flags.StringVar(&r.Rollout.Pause, "pause", "", "`time` to wait after a wave, such as 10m, or manual: until it is resumed")
	flags.BoolVar(&wait, "wait", false, "wait until each host that is not away has proven it, and fail if one has not")
	flags.DurationVar(&limit, "timeout", 0, "wait at most so `long`; the hosts go on")
	flags.StringVar(&r.Schedule, "schedule", "", "when its tags are resolved again: five fields of cron, @daily or '@every 30m'")
	flags.StringVar(&r.Timezone, "timezone", "", "time `zone` of schedule and window, such as Europe/Berlin (default: the daemon's)")
	flags.StringVar(&r.Jitter, "jitter", "", "resolve them up to this `time` later")
	flags.StringVar(&r.Window, "window", "", "when hosts may begin to pull, such as 22:00-06:00")
	flags.StringVar((*string)(&r.Policy), "policy", "", "pull `policy`: newer or missing (default newer)")
	flags.StringVar((*string)(&r.Priority), "priority", "", "job `priority`: high, normal or low (default low)")
	flags.StringVar(&r.Platform, "platform", "", "`os/arch[/variant]` of images that name none")
	flags.BoolVar(&unprotected, "no-protect", false, "let the images be collected")
	apply.MarkFlagFilename("file", "yaml", "yml")
	return apply
}

// wantedSet returns what the arguments or the file say of a set.
func wantedSet(ctx context.Context, f *command.Flags, cmd *cobra.Command, path string, args []string) (wanted file, err error) {
	usage := func(text string) error { return exit.Usage(errors.New(text), cmd.CommandPath()) }
	switch {
	case path != "" && len(args) > 1:
		return wanted, usage("IMAGE: those of a set with -f are in its file")
	case path == "" && len(args) == 0:
		return wanted, usage("SET is missing")
	case path == "" && len(args) == 1:
		return wanted, usage("IMAGE is missing: name images, or a file with -f")
	case path == "":
		for _, image := range args[1:] {
			wanted.Images = append(wanted.Images, puller.PullRequest{Image: command.FullName(image)})
		}
	default:
		listed, err := command.ReadSet(ctx, f, cmd, path, &wanted, &wanted.Profiles)
		if err != nil {
			return wanted, err
		}
		if listed != nil {
			wanted.Images, wanted.Platform = listed.Images, cmp.Or(wanted.Platform, listed.Platform)
		}
		wanted.Name = cmp.Or(wanted.Name, setfile.NameOf(path))
	}
	if len(args) > 0 {
		wanted.Name = args[0]
	}
	return wanted, nil
}

// override sets what flags have set.
func override(r *fleet.SetRequest, by fleet.SetRequest) {
	r.Schedule, r.Timezone = cmp.Or(by.Schedule, r.Schedule), cmp.Or(by.Timezone, r.Timezone)
	r.Jitter, r.Window = cmp.Or(by.Jitter, r.Jitter), cmp.Or(by.Window, r.Window)
	r.Policy, r.Priority, r.Platform = cmp.Or(by.Policy, r.Policy), cmp.Or(by.Priority, r.Priority), cmp.Or(by.Platform, r.Platform)
	to, from := &r.Rollout, by.Rollout
	to.Canary, to.Wave = cmp.Or(from.Canary, to.Canary), cmp.Or(from.Wave, to.Wave)
	to.MaxFailures, to.Pause = cmp.Or(from.MaxFailures, to.MaxFailures), cmp.Or(from.Pause, to.Pause)
	if len(by.Hosts) > 0 {
		r.Hosts = maps.Clone(by.Hosts)
	}
}

// waitFor shows a set until all members that are not away have done for its generation what
// they can, and then those that have not proven it.
func waitFor(ctx context.Context, f *command.Flags, cmd *cobra.Command, c *client.Client, s fleet.Set, limit time.Duration) error {
	out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
	waiting, stop := context.WithCancel(ctx)
	if limit > 0 {
		waiting, stop = context.WithTimeout(ctx, limit)
	}
	defer stop()
	p := newProgress(f, out)
	showing, hide := context.WithCancel(waiting)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		follow(showing, c, s.Name, p) // what it shows is not needed: the wait says how it ends
	}()
	_, err := c.Fleet().WaitSet(waiting, s.Name, s.Generation)
	hide()
	<-shown
	// The error has a part of the hosts; the set has all, and events may be behind it.
	now, fault := c.Fleet().Set(ctx, s.Name, "")
	if fault != nil || now.Generation != s.Generation {
		now = fleet.Set{}
	}
	takeSet(p, now)
	p.end()
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(errs, "towline: interrupted; the hosts go on")
		return context.Canceled
	case waiting.Err() != nil:
		err = puller.Errorf(puller.ErrTimeout, "set %s: some hosts have not proven it within %s; they go on", s.Name, limit)
	}
	if !f.JSON && !f.Quiet {
		if fault := memberTable(out, now, false); err == nil {
			err = fault
		}
	}
	return err
}

// takeSet has a progress take in a set as it stands at the end, unless it is zero.
func takeSet(p progress, s fleet.Set) {
	if s.Name == "" {
		return
	}
	members, at := s.Members, time.Now().UTC()
	s.Members = nil
	p.take(fleet.Event{Time: at, Type: fleet.EventSet, Set: &s})
	for _, m := range members {
		if m.State != fleet.StateProven {
			p.take(fleet.Event{Time: at, Type: fleet.EventMember, Name: s.Name, Generation: s.Generation, Member: &m})
		}
	}
}
