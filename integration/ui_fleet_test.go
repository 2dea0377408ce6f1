package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/fleettest"
)

// fleetStub answers as a daemon in a fleet does: the routes of the fleet are those of the
// API, the others those of the stub.
type fleetStub struct {
	*fleettest.Fleet
	base   string
	scopes atomic.Value // of the browser, as JSON
	cut    func()       // ends the connections
}

// acceptedConns knows its connections. A server does not know those that were hijacked.
type acceptedConns struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *acceptedConns) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

// cut closes all connections.
func (l *acceptedConns) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}

func newFleetStub(t *testing.T, f *fleettest.Fleet) *fleetStub {
	t.Helper()
	other, err := url.Parse(stub(t, true))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(other)
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // the browser has gone
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: log, Open: true}
	if f != nil {
		o.Fleet = f
		t.Cleanup(f.Close)
	}
	routes := api.New(nil, o)
	s := &fleetStub{Fleet: f}
	s.scopes.Store(`["admin"]`)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/fleet"):
			routes.ServeHTTP(w, r)
		case r.URL.Path == "/v1/session":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"caller":"browser","scopes":%s}`, s.scopes.Load())
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	accepted := &acceptedConns{Listener: server.Listener}
	server.Listener = accepted
	server.Start()
	s.base, s.cut = server.URL+"/", accepted.cut
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return s
}

// TestDashboardFleet looks at the page of a fleet of 1,000 hosts.
func TestDashboardFleet(t *testing.T) {
	const many = 1000
	f := fleettest.New()
	all := make([]fleet.Host, many)
	for i := range all {
		all[i] = fleet.Host{
			ID: fmt.Sprintf("build-%04d", i), Name: fmt.Sprintf("build-%04d.example.com", i), Zone: fmt.Sprintf("zone-%d", i%3), Live: i%50 != 8, Invited: true,
			Labels: map[string]string{"role": []string{"ci", "edge"}[i%2]}, Version: "1.2.0", Platform: "linux/amd64", Heard: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		}
	}
	all[3].Error = hostile
	f.Add(all...)
	put := func(name string, r fleet.SetRequest) {
		if _, err := f.PutSet(t.Context(), name, r); err != nil {
			t.Fatal(err)
		}
	}
	app := fleet.SetRequest{
		Images: puller.Images{{Image: "registry.example.com/team/app:v7"}}, Hosts: map[string]string{"role": "ci"}, Schedule: "@daily", Window: "22:00-06:00",
		Rollout: fleet.RolloutRequest{Canary: "1", Wave: "10%", MaxFailures: "5%", Pause: "1m"},
	}
	app.Caller = "ci"
	put("app", app)
	put("base", fleet.SetRequest{Images: puller.Images{{Image: "redis:7"}, {Image: "nginx:1.27"}}})
	for i := 0; i < many; i += 2 {
		state, err := fleet.StateProven, error(nil)
		switch {
		case i < 20:
			state = fleet.StatePulling
		case i%40 == 0:
			state, err = fleet.StateFailed, puller.Errorf(puller.ErrNoSpace, "the engine has 1.2 GB free, and the image needs 3.4 GB %s", hostile)
		case i%40 == 2:
			state, err = fleet.StateRefused, puller.Errorf(puller.ErrForbidden, "rules.pull of the host does not allow registry.example.com")
		}
		f.Report("app", all[i].ID, state, err)
	}
	f.SetRollout("app", func(r *fleet.Rollout) {
		r.State, r.Reason = fleet.RolloutStopped, "48 hosts failed or refused; 5% is 25"
	})
	s := newFleetStub(t, f)
	b := newBrowser(t, s.base)
	b.until(`document.getElementById("connection").textContent === %s`, "Live")

	b.open("fleet")
	b.shows("Fleet test · this host is leader")
	b.shows("Rollout stopped: 48 hosts failed")
	b.until(`document.querySelector(".states").getAttribute("aria-label").startsWith(%s)`, "app: ")
	b.until(`document.querySelectorAll(".failures li strong").length === %s`, 2) // two reasons
	b.shows("build-0040, build-0080, build-0120, build-0160, build-0200 and 19 more")
	b.shows("<img src=x")
	b.shows("The disk of the engine is full.")
	b.until(`document.querySelectorAll("section > .scroll tbody tr").length === %s`, 100)
	b.shows("980 of 1000 live")
	b.accessible("fleet")

	// The hosts of a set, by state, a page at a time.
	b.click("section.set details:last-of-type summary")
	b.until(`document.querySelectorAll("section.set details[open] tbody tr").length === %s`, 100)
	b.click("section.set details[open] button.more")
	b.until(`document.querySelectorAll("section.set details[open] tbody tr").length === %s`, 500)
	b.evaluate(`(() => { const s = document.getElementById("state-app"); s.value = "pulling"; s.dispatchEvent(new Event("change")) })()`, nil)
	b.until(`document.querySelectorAll("section.set details[open] tbody tr").length === %s`, 9)
	b.accessible("fleet-open")

	// The controls of the rollout.
	b.until(`[...document.querySelectorAll("section.set:first-of-type .line button")].filter(b => !b.hidden).map(b => b.textContent).join() === %s`, "Resume,Cancel")
	b.click(`button[aria-label="Resume the rollout of app"]`)
	b.shows("Rollout running.")
	b.click(`button[aria-label="Pause the rollout of app"]`)
	b.shows("Rollout paused.")

	// Hosts: a search, one that goes, one that comes.
	b.evaluate(`(() => { const s = document.getElementById("host-search"); s.value = "build-099"; s.dispatchEvent(new Event("input")) })()`, nil)
	b.until(`document.querySelectorAll("section > .scroll tbody tr").length === %s`, 10)
	f.Live("build-0998", false)
	b.until(`[...document.querySelectorAll("section > .scroll tbody tr")].find(r => r.textContent.includes("build-0998")).textContent.includes(%s)`, "away")
	f.Add(fleet.Host{ID: "build-0999x", Live: true})
	b.until(`document.querySelectorAll("section > .scroll tbody tr").length === %s`, 11)
	if _, err := f.DeleteSet(t.Context(), "base"); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelectorAll("section.set").length === 1`)

	// Many reports in a short time: the page stays usable, and shows the last.
	for i := 0; i < many; i += 2 {
		f.Report("app", all[i].ID, fleet.StateProven, nil)
	}
	b.until(`document.querySelector(".failures").hidden && document.querySelector(".states").getAttribute("aria-label").includes(%s)`, "479 proven")

	// The keyboard reaches what a mouse does, and the focus stays while the page changes.
	b.evaluate(`document.querySelector("button[aria-label='Resume the rollout of app']").focus()`, nil)
	f.Live("build-0998", true)
	b.until(`document.querySelector(".states").getAttribute("aria-label").includes(%s)`, "480 proven")
	b.until(`document.activeElement.getAttribute("aria-label") === %s`, "Resume the rollout of app")

	// A cut connection is said, and mended.
	s.cut()
	b.until(`document.getElementById("main").classList.contains("stale")`)
	f.Report("app", all[0].ID, fleet.StatePulling, nil)
	b.until(`!document.getElementById("main").classList.contains("stale") && document.querySelector(".states").getAttribute("aria-label").includes(%s)`, "1 pulling")

	// Who may only read has no controls.
	s.scopes.Store(`["read"]`)
	b.do(chromedp.Reload())
	b.shows("Rollout paused.")
	b.until(`document.querySelector("section.set button:not(.more)") === null`)
	var title string
	var elements int
	b.evaluate(`document.title`, &title)
	b.evaluate(`document.querySelectorAll("#main img, #main script").length`, &elements)
	if title == "taken" || elements > 0 {
		t.Errorf("the page took a name for HTML: title %q, %d elements", title, elements)
	}
}

// TestDashboardWithoutFleet has a daemon in no fleet, one that is no controller, and one that
// does not know of fleets.
func TestDashboardWithoutFleet(t *testing.T) {
	plain := fleettest.New()
	plain.Fail(puller.Errorf(puller.ErrForbidden, "this host is no controller of the fleet"))
	for text, base := range map[string]string{
		"set fleet.url or fleet.embedded":      newFleetStub(t, nil).base,
		"This host is no controller":           newFleetStub(t, plain).base,
		"This daemon does not know of fleets.": stub(t, true),
	} {
		b := newBrowser(t, base)
		b.until(`document.getElementById("connection").textContent === %s`, "Live")
		b.open("fleet")
		b.shows(text)
		b.until(`document.querySelector("#main [aria-busy]") === null`)
		b.accessible("fleet-none")
	}
}
