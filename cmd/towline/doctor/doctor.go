// Package doctor looks for what keeps this machine from pulling images, and says what
// mends it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/socket"
	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// The states of a finding.
const (
	OK      = "ok"
	Warning = "warning" // pulls work, but not as well as they could
	Failed  = "failed"
)

// Finding is what a check has found.
type Finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what mends it; a command where there is one
}

// Options are the options of Run.
type Options struct {
	Client     *client.Client
	Host       string // the daemon's address
	Registries []string
	HTTP       *http.Client // for registries
	Now        func() time.Time
}

const (
	daemonLimit   = 5 * time.Second
	registryLimit = 10 * time.Second
	// leastFree is the part of the engine's disk that is to be free, in percent.
	leastFree = 10
	// mostSkew is how much the clock may differ from a registry's.
	mostSkew = 2 * time.Minute
)

// Run makes all checks. Those that need the daemon are left out where it does not
// answer.
func Run(ctx context.Context, o Options) []Finding {
	found := []Finding{o.socket()}
	daemon, answers, noEngine := o.daemon(ctx)
	found = append(found, daemon)
	if answers {
		found = append(found, o.engine(ctx, noEngine)...)
		found = append(found, o.coolDowns(ctx)...)
		found = append(found, o.fleet(ctx)...)
	}
	return append(found, o.registries(ctx)...)
}

// socket says whether this user may use the daemon's socket.
func (o Options) socket() Finding {
	f := Finding{Check: "socket", State: OK, Detail: o.Host}
	path, ok := socket.Path(o.Host)
	if !ok {
		f.Detail += " is no unix socket"
		return f
	}
	if fault := socket.Check(path, "towline serve"); fault != nil {
		f.State, f.Detail, f.Fix = Failed, fault.Reason, fault.Fix
		return f
	}
	f.Detail = socket.Describe(path)
	return f
}

// daemon says whether the daemon takes jobs, whether it answers at all, and why its engine
// does not.
func (o Options) daemon(ctx context.Context) (f Finding, answers bool, noEngine error) {
	ctx, cancel := context.WithTimeout(ctx, daemonLimit)
	defer cancel()
	f = Finding{Check: "daemon", State: OK, Detail: "it answers, and so do its engine and its store"}
	err := o.Client.Ready(ctx)
	answers = true
	switch kind := puller.KindOf(err); {
	case err == nil:
	case kind == puller.ErrEngineUnavailable: // which is a finding of its own
		noEngine = err
		f.State, f.Detail, f.Fix = Warning, "it answers, and waits for its engine", "mend the engine"
	case kind == puller.ErrOverloaded:
		f.State, f.Detail, f.Fix = Failed, "it answers, but takes no jobs: "+err.Error(), "towline explain overloaded; journalctl -u towline"
	case errors.Is(err, fs.ErrPermission):
		answers = false
		f.State, f.Detail, f.Fix = Failed, err.Error(), "mend the socket"
	case errors.Is(err, http.ErrSchemeMismatch):
		answers = false
		f.State, f.Detail, f.Fix = Failed, o.Host+" has no TLS", "write http:// for its address in --host or TOWLINE_HOST"
	default:
		answers = false
		f.State, f.Detail, f.Fix = Failed, err.Error(), "systemctl start towline, or towline serve; set --host or TOWLINE_HOST if it is elsewhere"
	}
	return f, answers, noEngine
}

// engine asks the daemon for its engine, the engine's disk and the accelerator. away is why
// the engine does not answer the daemon, nil for an engine that does.
func (o Options) engine(ctx context.Context, away error) []Finding {
	ctx, cancel := context.WithTimeout(ctx, daemonLimit)
	defer cancel()
	info, err := o.Client.Engine(ctx)
	switch {
	case puller.KindOf(err) == puller.ErrUnauthorized, puller.KindOf(err) == puller.ErrForbidden:
		return []Finding{{"engine", Warning, "the daemon does not tell this caller: " + err.Error(), "set --token or TOWLINE_TOKEN to a token with the scope read"}}
	case err != nil:
		return []Finding{{"engine", Failed, err.Error(), "journalctl -u towline"}}
	case !info.Reachable:
		return []Finding{engineAway(away)}
	}
	found := []Finding{{"engine", OK, fmt.Sprintf("%s %s, API %s, image store %s", info.Name, info.Version, info.APIVersion, info.ImageStore), ""}}
	if d := info.Disk; d != nil && d.Total > 0 {
		f := Finding{"disk", OK, fmt.Sprintf("%s of %s free for images", render.Size(d.Free), render.Size(d.Total)), ""}
		if float64(d.Free) < float64(d.Total)*leastFree/100 {
			f.State, f.Fix = Warning, "towline collect --plan, and then towline collect; or docker image prune"
		}
		found = append(found, f)
	}
	if a := info.Accelerator; a != nil {
		f := Finding{"accelerator", OK, "way " + string(a.Way), ""}
		if a.Reason != "" {
			f.Detail += ": " + a.Reason
		}
		if a.Way == puller.WayNone {
			f.State, f.Fix = Warning, "the section mirror of towline.yaml has the settings; pulls work without it"
		}
		found = append(found, f)
	}
	return found
}

// coolDowns tells of registries that the daemon asks for nothing now. A daemon that does
// not tell this caller, or is older, has none.
func (o Options) coolDowns(ctx context.Context) (found []Finding) {
	ctx, cancel := context.WithTimeout(ctx, daemonLimit)
	defer cancel()
	state, err := o.Client.Queue(ctx)
	if err != nil {
		return nil
	}
	for _, r := range state.Registries {
		if len(r.CoolDowns) == 0 {
			continue
		}
		found = append(found, Finding{
			"cool-down of " + r.Registry, Warning, "it limits the rate, so these wait: " + tables.CoolDowns(r, o.Now()),
			"wait; docker login " + r.Registry + " raises the limit, and the policies missing and newer ask for less",
		})
	}
	return found
}

// fleet tells how the host stands to its fleet, nothing where it is in none.
func (o Options) fleet(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, daemonLimit)
	defer cancel()
	link, err := o.Client.Fleet().Link(ctx)
	if err != nil {
		return nil
	}
	f := Finding{Check: "fleet", Detail: fmt.Sprintf("host %s of %s is %s", link.Host, link.Fleet, link.State)}
	if link.Reason != "" {
		f.Detail += ": " + link.Reason
	}
	switch link.State {
	case fleet.LinkUp:
		f.State = OK
	case fleet.LinkAway:
		f.State, f.Fix = Warning, "check fleet.url, and the network to the server; until then the host goes on alone"
	case fleet.LinkRefused:
		f.State, f.Fix = Failed, "on the host that runs the server: towline fleet invite "+link.Host+" --replace"
	default:
		return nil
	}
	return []Finding{f}
}

// engineSocket finds the socket of an engine in the words of one that does not answer.
var engineSocket = regexp.MustCompile(`unix://(/\S*[^\s.:])`)

// engineAway says what may be wrong with an engine that does not answer the daemon. Its socket
// is looked at, if it has one: the daemon is mostly on this host.
func engineAway(err error) Finding {
	const start = "systemctl start docker"
	f := Finding{"engine", Failed, "it does not answer the daemon", start + "; or set engine.host in towline.yaml to its address"}
	if err == nil { // it has been asked again, and was back for a moment
		return f
	}
	f.Detail += ": " + puller.Inner(err).Error()
	if found := engineSocket.FindStringSubmatch(err.Error()); found != nil {
		if fault := socket.Check(found[1], start); fault != nil {
			f.Detail, f.Fix = "it does not answer the daemon: "+fault.Reason, fault.Fix
		}
	}
	return f
}

// Write writes findings for people.
func Write(out io.Writer, found []Finding) {
	palette := render.PaletteOf(out)
	paint := map[string]func(string) string{OK: palette.Done, Warning: palette.Notice, Failed: palette.Failed}
	for _, f := range found {
		fmt.Fprintf(out, "%s %s: %s\n", paint[f.State](fmt.Sprintf("%-8s", f.State)), render.SafeText(f.Check), render.SafeText(f.Detail))
		if f.Fix != "" {
			fmt.Fprintf(out, "         to mend it: %s\n", render.SafeText(f.Fix))
		}
	}
}
