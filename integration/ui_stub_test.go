package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/api/ui"
)

// hostile is a name that would run a script if the page took it for HTML.
const hostile = `<img src=x onerror=document.title='taken'><script>document.title='taken'</script>`

// stubJobs are jobs in states that are rare, as the API answers them.
var stubJobs = map[string]string{
	"waits": `{"id":"waits","kind":"pull","state":"queued","image":"registry.example/some/very/long/name/of-a-repository-that-goes-on-and-on:v1.2.3-with-a-long-tag",
		"policy":"missing","priority":"normal","created_at":"2026-01-02T03:04:05Z"}`,
	"unknown": `{"id":"unknown","kind":"pull","state":"active","phase":"resolving","image":"docker.io/library/alpine:3.20","policy":"missing","priority":"normal","created_at":"2026-01-02T03:04:05Z"}`,
	"half": `{"id":"half","kind":"pull","state":"active","phase":"pulling","image":"docker.io/library/debian:13","policy":"missing","priority":"normal","created_at":"2026-01-02T03:04:05Z",
		"progress":{"downloaded":50000000,"total":100000000,"extracted":0,"layers":2,"layers_done":1,"layers_existing":0,"rate":12500000,"eta_seconds":4}}`,
	"denied": `{"id":"denied","kind":"pull","state":"failed","image":"registry.example/private:1","policy":"missing","priority":"normal","attempt":1,
		"created_at":"2026-01-02T03:04:05Z","started_at":"2026-01-02T03:04:05Z","finished_at":"2026-01-02T03:04:06Z","error":{"kind":"denied","message":"pull of registry.example/private:1: the registry refused access","retryable":false}}`,
	"fast": `{"id":"fast","kind":"pull","state":"succeeded","image":"docker.io/library/postgres:17","policy":"newer","priority":"high","attempt":1,"platform":"linux/amd64",
		"created_at":"2026-01-02T03:04:05Z","started_at":"2026-01-02T03:04:05Z","finished_at":"2026-01-02T03:04:16Z","timings":{"first_byte_seconds":0.2,"stream_seconds":10.1,"verify_seconds":0.05},
		"result":{"image_id":"sha256:1111111111111111","digest":"sha256:2222222222222222","size":450000000,"source":"pulled","downloaded":160000000,"duration_seconds":11,
		"accelerated":{"way":"alias","reason":"the engine reaches the address of the mirror","from_registry":100000000,"from_cache":60000000,"from_peers":0}}}`,
	"ran": `{"id":"ran","kind":"run","state":"succeeded","image":"docker.io/library/busybox:1","policy":"missing","priority":"normal","attempt":1,
		"created_at":"2026-01-02T03:04:05Z","started_at":"2026-01-02T03:04:05Z","finished_at":"2026-01-02T03:04:06Z","result":{"source":"present","downloaded":0,"duration_seconds":1.2,"exit_code":3,"oom_killed":true}}`,
	"many": `{"id":"many","kind":"prewarm","state":"failed","priority":"normal","created_at":"2026-01-02T03:04:05Z","started_at":"2026-01-02T03:04:05Z","finished_at":"2026-01-02T03:04:06Z",
		"children":["fast","denied"],"images":[{"job":"fast","image":"docker.io/library/postgres:17","state":"succeeded","source":"pulled"},
		{"job":"denied","image":"registry.example/private:1","state":"failed","error":{"kind":"denied","message":"the registry refused access","retryable":false}},
		{"service":"web","state":"skipped","reason":"it has a build section"}],"error":{"kind":"denied","message":"1 of 2 images failed","retryable":false}}`,
}

// stub answers as a daemon with many images and with sets does. Routes that it does not
// have are those of an older daemon.
func stub(t *testing.T, routes bool) string {
	t.Helper()
	page := func(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if f(w, r) != nil {
				http.NotFound(w, r)
			}
		}
	}
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, body)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page(ui.ServePage))
	mux.HandleFunc("GET /ui/{file}", page(ui.ServeFile))
	mux.HandleFunc("GET /v1/session", says(`{"caller":"browser","scopes":["admin"]}`))
	mux.HandleFunc("GET /readyz", says(`{"status":"ready"}`))
	mux.HandleFunc("GET /v1/engine", says(`{"name":"Docker","version":"28.1.1","api_version":"1.49","image_store":"containerd","platform":"linux/amd64","os_version":"Debian 13","reachable":true,
		"disk":{"total":500000000000,"free":40000000000},"accelerator":{"way":"mirror","reason":"hosts.toml names the mirror","connections":11,"max_connections":24,"cache_bytes":12000000000,"max_cache_bytes":20000000000}}`))
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("GET /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		var found []string
		for _, job := range stubJobs {
			if strings.Contains(job, fmt.Sprintf(`"state":%q`, r.URL.Query().Get("state"))) {
				found = append(found, job)
			}
		}
		says(`{"jobs":[`+strings.Join(found, ",")+`]}`)(w, r)
	})
	mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) { says(stubJobs[r.PathValue("id")])(w, r) })
	mux.HandleFunc("GET /v1/jobs/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if r.Header.Get("Last-Event-ID") != "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		event := func(seq int, kind, fields string) {
			fmt.Fprintf(w, "id: %d\nevent: %s\ndata: {\"seq\":%d,\"time\":\"2026-01-02T03:04:05Z\",\"type\":%q,\"job\":%q,%s}\n\n", seq, kind, seq, kind, id, fields)
		}
		job := strings.Join(strings.Fields(stubJobs[id]), " ")
		if strings.Contains(job, `"queued"`) {
			event(1, "state", `"state":"queued"`)
		} else {
			event(1, "state", `"state":"active","phase":"resolving"`)
		}
		event(2, "notice", `"message":"the next attempt is in 2 s"`)
		if id == "ran" {
			text, _ := json.Marshal(hostile + "\nhello\n")
			event(3, "log", `"stream":"stdout","text":`+string(text))
		}
		if strings.Contains(job, "finished_at") {
			event(4, "result", `"result":`+job)
			return
		}
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if routes {
		name, _ := json.Marshal(hostile)
		mux.HandleFunc("GET /v1/queue", says(`{"slots":8,"per_registry":6,"fetching":8,"unpacking":3,"queued":{"high":1,"normal":120,"low":7},
			"waiting":[{"image":"registry.example/some/very/long/name/of-a-repository-that-goes-on-and-on:v1.2.3-with-a-long-tag","platform":"linux/arm64","registry":"registry.example","priority":"high","reason":"registry_limit"},
			{"image":"docker.io/library/alpine:3.20","registry":"docker.io","priority":"normal","reason":"cool_down","until":"2026-01-02T03:04:05Z"},
			{"image":`+string(name)+`,"registry":"docker.io","priority":"low","reason":"new_reason"}],
			"registries":[{"registry":"docker.io","fetching":2,"waiting":90,"cool_down_until":"2026-01-02T03:14:05Z","cool_downs":[{"until":"2026-01-02T03:04:05Z","login":false},{"until":"2026-01-02T03:14:05Z","login":true}]},
			{"registry":"registry.example","fetching":6,"waiting":38}]}`))
		mux.HandleFunc("GET /v1/images", stubImages)
		mux.HandleFunc("GET /v1/images/history", says(`{"events":[
			{"seq":9,"time":"2026-01-02T03:04:05Z","type":"image","job":"","image":{"action":"restored","names":[`+string(name)+`],"set":"base","job":"fast"}},
			{"seq":8,"time":"2026-01-02T03:04:05Z","type":"image","job":"","image":{"action":"removed","id":"sha256:1","names":[],"freed":70000000,"why":"high"}},
			{"seq":7,"time":"2026-01-02T03:04:05Z","type":"image","job":"","image":{"action":"new_action","names":["docker.io/library/old:1"]}}],"next":"7"}`))
		mux.HandleFunc("POST /v1/collections", says(`{"dry_run":true,"removed":[{"id":"sha256:1","names":["docker.io/library/old:1"],"freed":5000000,"why":"high"}],
			"stayed":[],"disk_before":{"total":500000000000,"free":40000000000},"disk_after":{"total":500000000000,"free":40005000000},"blocked":"too few images may be removed"}`))
		mux.HandleFunc("GET /v1/sets", says(`{"sets":[{"name":"base","schedule":"@every 30m","policy":"newer","protect":true,"next_run":"2026-01-02T03:04:05Z","refreshing":false,"counts":{"present":2,"failed":1}}],
			"faults":[{"file":"broken.yaml","error":"images: there is none"}]}`))
		mux.HandleFunc("GET /v1/leases", says(`{"leases":[{"id":"lease","images":["docker.io/library/alpine:3.20"],"note":"for the tests","job":"fast","ttl_seconds":3600,
			"created_at":"2026-01-02T03:04:05Z","expires_at":"2026-01-02T04:04:05Z"}]}`))
		mux.HandleFunc("GET /v1/sets/base", says(`{"name":"base","images":[{"image":"docker.io/library/alpine:3.20","state":"present","checked_at":"2026-01-02T03:04:05Z"},
			{"image":`+string(name)+`,"state":"failed","reason":"the registry refused access","job":"denied"}]}`))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // else Close waits for the streams
	return server.URL + "/"
}

// stubImages answers with 2,000 images, a page at a time.
func stubImages(w http.ResponseWriter, r *http.Request) {
	const all = 2000
	first, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	type image map[string]any
	answer := map[string]any{}
	var images []image
	for i := first; i < min(all, first+limit); i++ {
		name := fmt.Sprintf("registry.example/team/image%d:v1", i)
		if i == 1 {
			name = hostile
		}
		images = append(images, image{
			"id": fmt.Sprintf("sha256:%064d", i), "names": []string{name}, "size": i * 1e6, "owner": "towline", "arrived_at": "2026-01-02T03:04:05Z", "sets": []string{}, "leases": []string{},
			"containers": []string{}, "collectable": i%2 == 0, "kept": []map[string]string{{"reason": "container", "detail": "web"}, {"reason": "new_reason"}},
		})
	}
	answer["images"] = images
	if first+limit < all {
		answer["next"] = strconv.Itoa(first + limit)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// TestDashboardPages looks at pages with answers that a daemon in a test seldom gives.
func TestDashboardPages(t *testing.T) {
	b := newBrowser(t, stub(t, true))
	b.until(`document.getElementById("connection").textContent === %s`, "Live")
	b.shows("waits since")
	b.accessible("now-rare")

	b.open("images")
	for _, rows := range []int{100, 200, 300} {
		b.until(`document.querySelectorAll("#found tbody tr").length === %s`, rows)
		if rows < 300 {
			b.click("button.more")
		}
	}
	b.shows("a container has it: web")
	b.shows("new_reason")
	b.shows("it is in the set base")
	b.shows("70.0 MB")
	b.shows("new_action")
	b.shows(hostile[len(hostile)-16:])
	// The rest, at once.
	b.until(`(() => { const more = document.querySelector("button.more"); if (!more.hidden && !more.disabled) more.click(); return more.hidden && document.querySelectorAll("#found tbody tr").length === 2000 })()`)

	b.open("images?image=team")
	b.until(`document.querySelectorAll("#found tbody tr").length === %s`, 100)
	b.click("form.search button[type=button]")
	b.shows("Too few images may be removed.")
	b.accessible("images-plan")

	b.open("sets")
	b.shows("broken.yaml")
	b.click("#main summary")
	b.shows("the registry refused access")
	b.shows("for the tests")
	b.accessible("sets-open")

	for id, text := range map[string]string{
		"waits": "waits since", "denied": "docker login", "fast": "60.0 MB from cache", "ran": "hello", "many": "it has a build section",
	} {
		b.open("jobs/" + id)
		b.shows(text)
		b.accessible("job-" + id)
	}
	b.open("queue")
	b.shows("pulls without a login wait until")
	b.shows("a slot of its registry")
	b.shows("new_reason")
	b.shows("125 more wait.")
	b.accessible("queue-full")
	b.open("engine")
	b.shows("hosts.toml names the mirror")
	b.shows("11 of 24")
	b.shows("12.0 GB of 20.0 GB")
	b.accessible("engine-full")
	var title string
	var elements int
	b.evaluate(`document.title`, &title)
	b.evaluate(`document.querySelectorAll("#main img, #main script").length`, &elements)
	if title == "taken" || elements > 0 {
		t.Errorf("the page took a name for HTML: title %q, %d elements", title, elements)
	}
}

// TestDashboardOfOlderDaemon has a daemon without the routes of images and sets.
func TestDashboardOfOlderDaemon(t *testing.T) {
	b := newBrowser(t, stub(t, false))
	for page, text := range map[string]string{"images": "This daemon does not list the images of its engine.", "sets": "This daemon has no sets.", "queue": "This daemon does not tell of its queue."} {
		b.open(page)
		b.shows(text)
		b.until(`document.querySelector("#main .fault") === null`)
	}
}
