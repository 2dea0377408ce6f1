package fleet

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller/fleet"
)

// linkText says how a host stands to its fleet.
func linkText(l fleet.Link) string {
	words := []string{fmt.Sprintf("fleet %s: host %s is %s", l.Fleet, l.Host, l.State)}
	if !l.Since.IsZero() {
		words[0] += " since " + l.Since.Local().Format(time.DateTime)
	}
	if l.Reason != "" {
		words[0] += ": " + l.Reason
	}
	if l.Server != "" {
		words = append(words, "server "+l.Server)
	}
	if l.Sets > 0 {
		words = append(words, "it is to have "+render.Count(l.Sets, "set"))
	}
	if l.Controller {
		words = append(words, "it may change the fleet", render.Count(l.Hosts, "host")+" live")
	}
	if l.Leader != "" {
		words = append(words, "acting controller "+l.Leader)
	}
	return strings.Join(words, "; ")
}

// setTable writes sets as a table. Times are as of now.
func setTable(out io.Writer, sets []fleet.Set, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SET\tGENERATION\tIMAGES\tHOSTS\tROLLOUT\tRESOLVED")
	for _, s := range sets {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", render.SafeText(s.Name), s.Generation, len(s.Images), counts(s.Counts), render.SafeText(rollout(s.Rollout)), render.SafeText(resolved(s, now)))
	}
	return w.Flush()
}

// setDetails writes a set, its images, and its members: all, or those that have not proven
// it. Times are as of now.
func setDetails(out io.Writer, s fleet.Set, all bool, now time.Time) error {
	fmt.Fprintln(out, render.SafeText(summary(s)+"; resolved "+resolved(s, now)))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tDIGEST")
	for _, i := range s.Images {
		name := i.Image
		if i.Platform != "" {
			name += " (" + i.Platform + ")"
		}
		fmt.Fprintf(w, "%s\t%s\n", render.SafeText(name), render.SafeText(i.Digest))
	}
	for _, k := range s.Skipped {
		fmt.Fprintf(w, "%s\tskipped: %s\n", render.SafeText("service "+k.Service), render.SafeText(k.Reason))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return memberTable(out, s, all)
}

// memberTable writes the members of a set that have not proven it, those that failed first,
// or all.
func memberTable(out io.Writer, s fleet.Set, all bool) error {
	members := slices.DeleteFunc(slices.Clone(s.Members), func(m fleet.MemberState) bool { return !all && m.State == fleet.StateProven })
	if len(members) == 0 {
		return nil
	}
	slices.SortStableFunc(members, func(a, b fleet.MemberState) int { return cmp.Compare(order(a.State), order(b.State)) })
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tSTATE\tHAS\tREASON")
	for _, m := range members {
		has := "-"
		if m.Generation > 0 {
			has = fmt.Sprintf("generation %d", m.Generation)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", render.SafeText(m.Host), render.SafeText(string(m.State)), has, render.SafeText(reason(m)))
	}
	return w.Flush()
}

// order puts what needs attention first, and what is proven last.
func order(s fleet.State) int {
	attention := []fleet.State{fleet.StateFailed, fleet.StateRefused, fleet.StateAway, fleet.StatePulling, fleet.StateWaiting}
	if i := slices.Index(attention, s); i >= 0 {
		return i
	}
	return len(attention)
}

// reason says why a member has not proven a set.
func reason(m fleet.MemberState) string {
	text := m.Error
	if m.Kind != "" {
		text = string(m.Kind) + ": " + text
	}
	for _, i := range m.Images {
		if i.Error != "" && !strings.Contains(text, i.Error) {
			text += "; " + i.Image + ": " + i.Error
		}
	}
	switch {
	case m.State == fleet.StateAway && m.Last != "":
		text = strings.TrimSuffix("was "+string(m.Last)+": "+text, ": ")
	case m.State == fleet.StateWaiting && !m.Released:
		text = cmp.Or(text, "its wave has not come")
	}
	return strings.TrimPrefix(text, "; ")
}

// summary says in one line how a set stands.
func summary(s fleet.Set) string {
	return fmt.Sprintf("%s: generation %d, %s, rollout %s", s.Name, s.Generation, counts(s.Counts), rollout(s.Rollout))
}

// counts writes how many are in each state.
func counts(of map[fleet.State]int) string {
	var words []string
	for _, state := range fleet.States {
		if n := of[state]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, state))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "no host")
}

// rollout writes what a rollout is at.
func rollout(r fleet.Rollout) string {
	text := string(r.State)
	if r.Released < r.Members {
		text += fmt.Sprintf(", %d of %d hosts may have it", r.Released, r.Members)
	}
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	return text
}

// resolved writes when the tags of a set were resolved, and are again.
func resolved(s fleet.Set, now time.Time) string {
	text := tables.Ago(now.Sub(s.ResolvedAt))
	if !s.NextRun.IsZero() {
		text += ", again in " + tables.Left(s.NextRun.Sub(now))
	}
	if s.Error != "" {
		text += "; then failed: " + s.Error
	}
	return text
}

// hostTable writes hosts as a table. Times are as of now.
func hostTable(out io.Writer, hosts []fleet.Host, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tZONE\tHEARD\tSETS\tVERSION\tPLATFORM\tLABELS\tNOTE")
	for _, h := range hosts {
		heard := "live"
		switch {
		case !h.Live && h.Heard.IsZero():
			heard = "never"
		case !h.Live:
			heard = tables.Ago(now.Sub(h.Heard))
		}
		sets := counts(h.Counts)
		if len(h.Counts) == 0 {
			sets = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", render.SafeText(h.ID), dash(h.Zone), heard, sets, dash(h.Version), dash(h.Platform), dash(labels(h.Labels)), render.SafeText(h.Error))
	}
	return w.Flush()
}

func dash(text string) string { return cmp.Or(render.SafeText(text), "-") }

// labels writes labels, without those that each host has by itself.
func labels(all map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != fleet.LabelHost && name != fleet.LabelZone {
			words = append(words, name+"="+all[name])
		}
	}
	return strings.Join(words, ",")
}
