package integration_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// axe finds faults of accessibility; see testdata/axe-core/README.md.
//
//go:embed testdata/axe-core/axe.min.js
var axe string

// browser is a tab of a real Chromium at the dashboard of a daemon.
type browser struct {
	t      *testing.T
	ctx    context.Context
	base   string
	mu     sync.Mutex
	faults []string // exceptions of the page
}

// newBrowser opens the dashboard.
func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path, err := lab.Chromium(t.Context(), t.Logf)
	lab.Need(t, err)
	unlock, err := lab.KeepAddresses()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	// Chromium has no sandbox for root.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.ExecPath(path))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: base}
	chromedp.ListenTarget(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.faults = append(b.faults, thrown.ExceptionDetails.Error())
		}
	})
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.faults) > 0 {
			t.Errorf("exceptions of the page: %q", b.faults)
		}
	})
	// The first call starts the browser, which ends with the context of that call.
	started := make(chan error, 1)
	go func() { started <- chromedp.Run(ctx) }()
	select {
	case err := <-started:
		lab.Need(t, err)
	case <-time.After(patience):
		t.Fatal("the browser does not start")
	}
	b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(base))
	return b
}

// patience is how long the page may take for one step.
const patience = 30 * time.Second

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	err := chromedp.Run(ctx, actions...)
	if err == nil {
		return
	}
	ctx, cancel = context.WithTimeout(b.ctx, 5*time.Second) // the browser may have gone
	defer cancel()
	var text string
	chromedp.Run(ctx, chromedp.Evaluate(`document.body.innerText`, &text))
	b.t.Fatalf("%v; the page shows:\n%s", err, text)
}

// until waits until an expression of JavaScript is true.
func (b *browser) until(expression string, arguments ...any) {
	b.t.Helper()
	quoted := make([]any, len(arguments))
	for i, a := range arguments {
		text, err := json.Marshal(a)
		if err != nil {
			b.t.Fatal(err)
		}
		quoted[i] = string(text)
	}
	b.do(chromedp.Poll(fmt.Sprintf(expression, quoted...), nil, chromedp.WithPollingTimeout(patience-time.Second)))
}

// shows waits until the main part of the page shows a text.
func (b *browser) shows(text string) {
	b.t.Helper()
	b.until(`document.getElementById("main").innerText.includes(%s)`, text)
}

// open goes to a page.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Evaluate(fmt.Sprintf("location.hash = %q", "#/"+path), nil))
}

// click clicks on an element, without waiting for what moves.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.until(`(e => e && !e.disabled && !e.hidden && (e.click(), true))(document.querySelector(%s))`, selector)
}

func (b *browser) evaluate(expression string, result any) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, result))
}

// login enters a token.
func (b *browser) login(token string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible("#token"), chromedp.Evaluate(`document.getElementById("token").value = ""`, nil), chromedp.SendKeys("#token", token), chromedp.Click("form.login button"))
}

// accessible looks for faults of accessibility, in a wide and light window, and in a narrow
// and dark one. Screenshots of both go to the directory TOWLINE_SCREENSHOTS, if that is set.
func (b *browser) accessible(page string) {
	b.t.Helper()
	var loaded bool
	b.evaluate(`"axe" in window`, &loaded)
	if !loaded {
		b.do(chromedp.Evaluate(axe+";0", nil))
	}
	for scheme, width := range map[string]int64{"light": 1280, "dark": 390} {
		var found []string
		var overflows bool
		b.do(chromedp.EmulateViewport(width, 900),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
			chromedp.Evaluate(`axe.run({resultTypes: ["violations"]}).then(r => r.violations.map(v => v.id + ": " + v.nodes.map(n => n.html).join(" ")))`, &found,
				func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }),
			chromedp.Evaluate(`document.documentElement.scrollWidth > document.documentElement.clientWidth`, &overflows))
		if len(found) > 0 {
			b.t.Errorf("%s, %d pixels wide: %q", page, width, found)
		}
		if overflows {
			b.t.Errorf("%s does not fit into %d pixels", page, width)
		}
		if dir := os.Getenv("TOWLINE_SCREENSHOTS"); dir != "" {
			var png []byte
			b.do(chromedp.CaptureScreenshot(&png))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.png", page, width)), png, 0o644); err != nil {
				b.t.Error(err)
			}
		}
	}
	b.do(chromedp.EmulateViewport(1280, 900))
}

// dashboard starts a daemon that listens on TCP, and returns it with its address, a
// token, and what it was started with.
func dashboard(t *testing.T) (d *lab.Towline, base, token, dir string, options lab.TowlineOptions) {
	t.Helper()
	lab.Need(t, site.err)
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(dir, "tokens.yaml")
	out, err := exec.Command(site.bin, "token", "new", "browser", "--scope", "admin", "--file", tokens).Output()
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	options = lab.TowlineOptions{EngineHost: site.engine.Host, Listen: []string{"tcp://" + address}, Config: fmt.Sprintf("auth: {token_file: %q}\n", tokens)}
	if d, err = lab.StartTowline(t.Context(), site.bin, dir, options); err != nil {
		t.Fatal(err)
	}
	return d, "http://" + address + "/", strings.TrimSpace(string(out)), dir, options
}

func TestDashboard(t *testing.T) {
	d, base, token, dir, options := dashboard(t)
	t.Cleanup(func() { d.Stop() })
	b := newBrowser(t, base)

	// A wrong token is refused, and no token gets into the address.
	b.login("towline_wrong")
	b.until(`document.getElementById("login-fault").textContent.includes(%s)`, "does not know this token")
	b.accessible("login")
	b.login(token)
	b.until(`document.getElementById("connection").textContent === %s`, "Live")
	var address string
	b.do(chromedp.Evaluate("location.href", &address))
	if strings.Contains(address, "token") || strings.Contains(address, "?") {
		t.Errorf("the address is %s", address)
	}

	// A pull from its start to its end.
	ref, digest := push(t, "dashboard", 2, 1<<20)
	release := site.registry.Hold(256 << 10)
	defer release()
	b.do(chromedp.SetValue("#images", ref), chromedp.Click("form.start button"))
	b.until(`document.querySelector(".job.active .title")?.innerText.replace(/\s/g, "") === %s`, ref)
	b.do(chromedp.Click(".job.active summary"))
	b.until(`document.querySelectorAll(".job.active .layers li").length === 2`)
	b.accessible("now")
	b.open("queue")
	b.until(`document.querySelector("#main tbody")?.innerText.includes(%s)`, "1 of ")
	b.accessible("queue")
	b.open("")
	release()
	b.until(`document.querySelector(".job.succeeded .figures")?.innerText.includes(%s)`, "pulled")
	b.do(chromedp.Click(".job.succeeded .title"))
	b.shows(strings.TrimPrefix(digest, "sha256:")[:12])
	b.shows("verifying")
	b.accessible("job")

	// Another one is cancelled.
	other, _ := push(t, "dashboard2", 1, 1<<20)
	hold := site.registry.Hold(256 << 10)
	defer hold()
	b.open("")
	b.do(chromedp.WaitVisible("#images"), chromedp.SetValue("#images", other), chromedp.Click("form.start button"))
	b.do(chromedp.WaitVisible(".job.active .line button"), chromedp.Click(".job.active .line button"))
	b.until(`document.querySelector(".job.canceled") !== null`)

	// What looks like HTML stays text.
	b.do(chromedp.SetValue("#images", `<img/src=x/onerror=alert(1)>`), chromedp.Click("form.start button"))
	b.until(`document.getElementById("toasts").innerText.includes(%s)`, "<img/src=x/onerror=alert(1)>")
	b.until(`document.querySelector("#toasts img, #main img") === null`)

	// The daemon is killed and starts again. Meanwhile nothing looks live.
	b.do(chromedp.SetValue("#images", other), chromedp.Click("form.start button"), chromedp.WaitVisible(".job.active"))
	d.Kill()
	b.until(`document.body.classList.contains("stale") && document.getElementById("connection").textContent.startsWith(%s)`, "Not connected")
	hold()
	var err error
	if d, err = lab.StartTowline(t.Context(), site.bin, dir, options); err != nil {
		t.Fatal(err)
	}
	// Sessions end with the daemon.
	b.login(token)
	b.until(`!document.body.classList.contains("stale") && document.getElementById("connection").textContent === %s`, "Live")

	// The set and the lease are of an image that is there.
	for _, r := range []struct{ method, path, body string }{
		{http.MethodPut, "/v1/sets/base", fmt.Sprintf(`{"images":[%q],"schedule":"@every 24h"}`, ref)},
		{http.MethodPost, "/v1/leases", fmt.Sprintf(`{"images":[%q],"ttl":"1h","note":"of a test"}`, ref)},
	} {
		resp, err := d.Do(t.Context(), r.method, r.path, http.Header{"Content-Type": {"application/json"}}, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s", r.method, r.path, resp.Status)
		}
	}
	b.open("sets")
	b.shows("of a test")
	b.click("#main summary")
	b.until(`document.querySelector("#main details .badge") !== null`)
	b.click("section button[aria-label^=End]")
	b.shows("There is no lease.")
	b.open("images?image=dashboard%3Av1")
	b.until(`document.querySelectorAll("#main tbody tr").length === 1`)
	b.shows("in a set: base")

	for _, page := range []string{"engine", "sets", "images", "jobs", "queue"} {
		b.open(page)
		b.until(`document.querySelector("#main [aria-busy]") === null && document.querySelector("#main h1") !== null`)
		b.accessible(page)
	}
}

// TestDashboardOfManyJobs has more jobs than one page of the API.
func TestDashboardOfManyJobs(t *testing.T) {
	d, base, token, _, _ := dashboard(t)
	t.Cleanup(func() { d.Stop() })
	for i := range 10 {
		images := make([]string, 50)
		for j := range images {
			images[j] = fmt.Sprintf("%q", fmt.Sprintf("registry.invalid/many/%d-%d:1", i, j))
		}
		body := fmt.Sprintf(`{"images":[%s],"policy":"never"}`, strings.Join(images, ","))
		resp, err := d.Do(t.Context(), http.MethodPost, "/v1/prewarms?wait=true", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	b := newBrowser(t, base)
	b.login(token)
	b.until(`document.getElementById("connection").textContent === %s`, "Live")
	b.open("jobs?kind=pull&state=failed")
	for _, rows := range []int{50, 100, 150} {
		b.until(`document.querySelectorAll("#main tbody tr").length === %s`, rows)
		if rows < 150 {
			b.click("button.more")
		}
	}
	b.shows(string(puller.ErrNotFound))
}
