package tables

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// waitWords say what a transfer waits for.
var waitWords = map[puller.WaitReason]string{
	puller.WaitCoolDown:      "the cool-down of its registry",
	puller.WaitRegistryLimit: "a slot of its registry",
	puller.WaitOtherPlatform: "another platform of the image",
	puller.WaitPrewarmLimit:  "a slot for prewarms",
	puller.WaitSlots:         "a slot",
}

// Queue writes the queue of transfers. Times that are left are as of now.
func Queue(out io.Writer, s puller.QueueState, now time.Time) error {
	fmt.Fprintf(out, "%d of %s fetch, %d only unpack, %d wait (%d high, %d normal, %d low)\n",
		s.Fetching, render.Count(s.Slots, "slot"), s.Unpacking, s.Queued.All(), s.Queued.High, s.Queued.Normal, s.Queued.Low)
	if len(s.Registries) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "\nREGISTRY\tFETCH\tWAIT\tCOOL-DOWN")
		for _, r := range s.Registries {
			fmt.Fprintf(w, "%s\t%d of %d\t%d\t%s\n", render.SafeText(r.Registry), r.Fetching, s.PerRegistry, r.Waiting, CoolDowns(r, now))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(s.Waiting) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "\nIMAGE\tPLATFORM\tPRIORITY\tWAITS FOR")
		for _, t := range s.Waiting {
			reason := cmp.Or(waitWords[t.Reason], string(t.Reason))
			if !t.Until.IsZero() {
				reason += ", " + leftUntil(t.Until, now)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", render.SafeText(t.Image), render.SafeText(cmp.Or(t.Platform, "-")), render.SafeText(string(t.Priority)), render.SafeText(reason))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if n := s.Queued.All() - len(s.Waiting); n > 0 {
			_, err := fmt.Fprintf(out, "and %d more\n", n)
			return err
		}
	}
	return nil
}

// CoolDowns says until when a registry is asked for nothing, "-" for no cool-down.
func CoolDowns(r puller.RegistryState, now time.Time) string {
	text := ""
	for _, c := range r.CoolDowns {
		of := "pulls without a login"
		if c.Login {
			of = "pulls with a login"
		}
		if text != "" {
			text += "; "
		}
		text += of + ", " + leftUntil(c.Until, now)
	}
	return cmp.Or(text, "-")
}

// leftUntil says how long it is until a time, in whole seconds that have begun.
func leftUntil(until, now time.Time) string { return Left(until.Sub(now)+time.Second-1) + " left" }
