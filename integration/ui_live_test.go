package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// TestDashboardKeepsUp looks at pages that stay open while what they show changes.
func TestDashboardKeepsUp(t *testing.T) {
	d, base, token, _, _ := dashboard(t)
	t.Cleanup(func() { d.Stop() })
	b := newBrowser(t, base)
	b.login(token)
	b.until(`document.getElementById("connection").textContent === %s`, "Live")

	t.Run("sets", func(t *testing.T) {
		b.t = t
		ref, _ := push(t, "keepsup-set", 1, 1<<10)
		for _, name := range []string{"one", "two"} {
			call(t, d, http.MethodPut, "/v1/sets/"+name, fmt.Sprintf(`{"images":[%q]}`, ref))
		}
		b.open("sets")
		b.until(`document.querySelectorAll("#main section.set").length === 2`)
		b.shows("no schedule: pulls what is missing")
		call(t, d, http.MethodDelete, "/v1/sets/one", "")
		b.until(`document.querySelectorAll("#main section.set").length === 1`)
	})
	t.Run("an unknown job", func(t *testing.T) {
		b.t = t
		b.open("jobs/01M8K5Y6QDC8WGMFW7QE5WBJJX")
		b.shows("is not known")
		b.until(`[...document.querySelectorAll("#main progress, #main .timeline")].every(e => e.checkVisibility() === false)`)
	})
	t.Run("the skip link", func(t *testing.T) {
		b.t = t
		b.open("images")
		b.until(`document.querySelector("#found:not([aria-busy])") !== null`)
		b.click("a.skip")
		var page string
		b.evaluate(`document.querySelector("#main h1").textContent + " " + (document.activeElement.id)`, &page)
		if page != "Images main" {
			t.Errorf("it leads to %q", page)
		}
	})
	t.Run("a prewarm", func(t *testing.T) {
		b.t = t
		here, _ := push(t, "keepsup-here", 1, 1<<20)
		held, _ := push(t, "keepsup-held", 6, 1<<20)
		release := site.registry.Hold(256 << 10)
		defer release()
		var job puller.Job
		if err := json.Unmarshal([]byte(call(t, d, http.MethodPost, "/v1/prewarms", fmt.Sprintf(`{"images":[%q,%q]}`, held, here))), &job); err != nil {
			t.Fatal(err)
		}
		id := job.ID
		b.open("jobs/" + id)
		b.until(`[...document.querySelectorAll("#main tbody .badge")].map(e => e.innerText.replace(/\W/g, "")).join() === %s`, "active,active")
		// Which of them ends first is otherwise the engine's choice.
		call(t, d, http.MethodDelete, "/v1/jobs/"+job.Children[1], "")
		b.until(`[...document.querySelectorAll("#main tbody .badge")].map(e => e.innerText.replace(/\W/g, "")).join() === %s`, "active,canceled")

		// What is worked on is first, also for who comes later.
		b.open("jobs")
		b.until(`[...document.querySelectorAll("#main tbody tr")].map(r => r.cells[1].innerText).join().startsWith("prewarm,")`) // without its pulls
		b.until(`[...document.querySelectorAll("#main tbody tr")].every(r => r.cells[1].innerText === "prewarm")`)
		b.open("")
		b.open("jobs/" + id)
		b.until(`document.querySelectorAll("#main .layers li").length >= 6`)
		b.until(`document.querySelector("#main .layers li").innerText.includes(%s) && document.querySelector("#main .layers").innerText.includes(%s)`, "downloading", "waiting")

		// The history learns how it ended.
		b.open("jobs")
		b.until(`document.querySelector("#main tbody tr:first-child .badge.active") !== null`)
		release()
		b.until(`document.querySelector("#main tbody tr:first-child .badge:is(.failed, .canceled)") !== null`)
	})
	t.Run("an engine that is away", func(t *testing.T) {
		b.t = t
		b.evaluate(`window.honest = fetch; window.fetch = () => Promise.resolve(new Response(JSON.stringify({kind: "engine_unavailable", detail: "the engine is away"}), {status: 503})); 0`, nil)
		b.open("engine")
		b.until(`document.querySelector("#main .fault")?.innerText.includes(%s) && document.querySelector("#main .advice") !== null`, "The engine is away.")
		b.evaluate(`window.fetch = window.honest; 0`, nil)
	})
	t.Run("a message", func(t *testing.T) {
		b.t = t
		b.open("")
		b.do(chromedp.WaitVisible("#images"), chromedp.SetValue("#images", "Wrong:"), chromedp.Click("form.start button"))
		b.until(`document.querySelector("#toasts .toast") !== null`)
		b.open("queue")
		b.until(`document.querySelector("#main h1").textContent === "Queue"`)
		var messages int // at once: a message goes by itself after a while
		b.evaluate(`document.querySelectorAll("#toasts .toast").length`, &messages)
		if messages != 0 {
			t.Errorf("%d messages of another page stay", messages)
		}
	})
}

// call makes a request that succeeds, and returns the answer.
func call(t *testing.T, d *lab.Towline, method, path, body string) string {
	t.Helper()
	resp, err := d.Do(t.Context(), method, path, http.Header{"Content-Type": {"application/json"}}, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, answer)
	}
	return string(answer)
}
