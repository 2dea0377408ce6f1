package api_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

const yaml = "application/yaml"

func TestPrewarm(t *testing.T) {
	d := start(t)
	gate := d.held("alpine:3.20")
	d.good("registry.test/app:v1", 1)
	a := d.call("POST", "/v1/prewarms", `{"images":["alpine:3.20",{"image":"registry.test/app:v1","platform":"linux/amd64","policy":"always"}],"fail_fast":true,"priority":"low","retries":1,"timeout":"90s"}`)
	parent := a.job(t, http.StatusAccepted)
	if parent.State.Ended() || len(parent.Children) != 2 || len(parent.Images) != 2 {
		t.Fatalf("the prewarm is %s", a.Body)
	}
	got := puller.Job{Kind: parent.Kind, Priority: parent.Priority, Image: parent.Images[0].Image}
	want := puller.Job{Kind: puller.JobPrewarm, Priority: puller.PriorityLow, Image: "docker.io/library/alpine:3.20"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the prewarm (-want +got):\n%s", diff)
	}
	if got := a.Header.Get("Location"); got != "/v1/jobs/"+parent.ID {
		t.Errorf("Location is %q", got)
	}
	child := d.call("GET", "/v1/jobs/"+parent.Children[1], "").job(t, http.StatusOK)
	got = puller.Job{Parent: child.Parent, Kind: child.Kind, Platform: child.Platform, Policy: child.Policy, Priority: child.Priority}
	want = puller.Job{Parent: parent.ID, Kind: puller.JobPull, Platform: "linux/amd64", Policy: puller.PolicyAlways, Priority: puller.PriorityLow}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the second child (-want +got):\n%s", diff)
	}
	close(gate)
	d.ended(parent.ID)
	ended := d.call("GET", "/v1/jobs/"+parent.ID, "").job(t, http.StatusOK)
	if ended.State != puller.StateSucceeded || len(ended.Images) != 2 || ended.Images[0].Source != puller.SourcePulled {
		t.Errorf("it ended as %+v", ended)
	}
	list := func(query string) (ids []string) {
		var page struct{ Jobs []puller.Job }
		d.call("GET", "/v1/jobs"+query, "").Decode(t, http.StatusOK, "application/json", &page)
		for _, j := range page.Jobs {
			ids = append(ids, j.ID)
			if j.Images != nil {
				t.Errorf("the list has images: %+v", j)
			}
		}
		return ids
	}
	if got := list("?kind=prewarm"); !slices.Equal(got, []string{parent.ID}) {
		t.Errorf("the prewarms are %q", got)
	}
	if got := list("?kind=pull"); len(got) != 2 || !slices.Contains(got, parent.Children[0]) {
		t.Errorf("the pulls are %q", got)
	}
}

func TestPrewarmWait(t *testing.T) {
	d := start(t)
	d.good("registry.test/a:v1", 1)
	d.good("registry.test/b:v1", 2)
	parent := d.call("POST", "/v1/prewarms?wait=true", `{"images":["registry.test/a:v1","registry.test/b:v1"]}`).job(t, http.StatusOK)
	if parent.State != puller.StateSucceeded || len(parent.Images) != 2 || parent.Result == nil {
		t.Errorf("the prewarm is %+v", parent)
	}

	d.Engine.Script("denied.test/b:v1", play("engine-20.10/unauthorized"))
	a := d.call("POST", "/v1/prewarms?wait=true", `{"images":["registry.test/a:v1","denied.test/b:v1","lost.test/c:v1"],"retries":0}`)
	p := a.problem(t, http.StatusForbidden, puller.ErrDenied)
	if !strings.Contains(p.Detail, "denied.test/b:v1 (denied)") || !strings.Contains(p.Detail, "lost.test/c:v1 (not_found)") || strings.Contains(p.Detail, "registry.test/a") || a.Header.Get("Location") != "/v1/jobs/"+p.Job {
		t.Errorf("the problem is %s", a.Body)
	}

	// What is only canceled because another one failed does not count.
	d.held("slow.test/a:v1")
	a = d.call("POST", "/v1/prewarms?wait=true", `{"images":["slow.test/a:v1","lost.test/c:v1"],"fail_fast":true}`)
	p = a.problem(t, http.StatusNotFound, puller.ErrNotFound)
	if !strings.Contains(p.Detail, "slow.test/a:v1 (canceled)") {
		t.Errorf("the problem is %s", a.Body)
	}
}

func TestPrewarmStream(t *testing.T) {
	for _, media := range []string{ndjson, sse} {
		t.Run(media, func(t *testing.T) {
			d := start(t)
			d.good("registry.test/a:v1", 1)
			d.good("registry.test/b:v1", 2)
			f := d.follow("POST", "/v1/prewarms", `{"images":["registry.test/a:v1","registry.test/b:v1"]}`, media)
			events := f.rest()
			last := events[len(events)-1]
			checkComplete(t, events, last.Job)
			if last.Result.Kind != puller.JobPrewarm || len(last.Result.Images) != 2 || last.Result.Progress == nil || last.Result.Progress.Downloaded != 2000 {
				t.Errorf("the result is %s", last.raw)
			}
			notices, layers := 0, 0
			for _, e := range events {
				switch e.Type {
				case "notice":
					notices++
				case "layer":
					layers++
					if e.Progress == nil || e.Progress.Layers > 2 {
						t.Errorf("a layer has the progress %s", e.raw)
					}
				}
			}
			if notices != 2 || layers < 2 {
				t.Errorf("there were %d notices and %d layers", notices, layers)
			}
			again := d.follow("GET", "/v1/jobs/"+last.Job+"/events?since=0", "", media).rest()
			if got, want := numbers(again), numbers(events); !slices.Equal(got, want) && !slices.Equal(got[len(got)-len(want):], want) {
				t.Errorf("read again, the numbers are %d, not %d", got, want)
			}
		})
	}
}

func TestPrewarmCancel(t *testing.T) {
	d := start(t)
	d.held("registry.test/a:v1")
	parent := d.call("POST", "/v1/prewarms", `{"images":["registry.test/a:v1","registry.test/a:v1"]}`).job(t, http.StatusAccepted)
	got := d.call("DELETE", "/v1/jobs/"+parent.ID, "").job(t, http.StatusOK)
	if got.State != puller.StateCanceled || len(got.Images) != 2 || got.Images[0].State != puller.StateCanceled || got.Error == nil {
		t.Errorf("it was answered with %+v", got)
	}
	d.call("DELETE", "/v1/jobs/"+parent.ID, "").problem(t, http.StatusConflict, puller.ErrConflict)
	d.call("DELETE", "/v1/jobs/"+parent.Children[1], "").problem(t, http.StatusConflict, puller.ErrConflict)
}

func TestPrewarmIdempotency(t *testing.T) {
	d := start(t)
	d.good("registry.test/a:v1", 1)
	body := `{"images":["registry.test/a:v1"]}`
	first := d.call("POST", "/v1/prewarms", body, "Idempotency-Key", "ci").job(t, http.StatusAccepted)
	d.ended(first.ID)
	// The same in other words.
	for _, same := range []string{body, `{"fail_fast":false,"images":[{"image":"registry.test/a:v1"}]}`} {
		if again := d.call("POST", "/v1/prewarms?wait=true", same, "Idempotency-Key", "ci").job(t, http.StatusOK); again.ID != first.ID {
			t.Errorf("%s is another job: %+v", same, again)
		}
	}
	d.call("POST", "/v1/prewarms", `{"images":["registry.test/a:v1","b"]}`, "Idempotency-Key", "ci").problem(t, http.StatusConflict, puller.ErrConflict)
	d.call("POST", "/v1/pulls", `{"image":"registry.test/a:v1"}`, "Idempotency-Key", "ci").problem(t, http.StatusConflict, puller.ErrConflict)
}

func TestPrewarmCompose(t *testing.T) {
	d := start(t)
	d.good("registry.test/a:v2", 1)
	file := "services:\n  web: {image: 'registry.test/a:${TAG}'}\n  app: {build: .}\n  dev: {image: lost, profiles: [dev]}\n"
	parent := d.call("POST", "/v1/prewarms?wait=true&var=TAG=v2&priority=high&fail_fast=true", file, "Content-Type", yaml).job(t, http.StatusOK)
	if parent.State != puller.StateSucceeded || parent.Priority != puller.PriorityHigh || len(parent.Children) != 1 || len(parent.Images) != 2 {
		t.Errorf("the prewarm is %+v", parent)
	}
	if s := parent.Images[len(parent.Images)-1]; s.Service != "app" || s.State != "skipped" || s.Reason == "" {
		t.Errorf("what is built is %+v", s)
	}
	built := d.call("POST", "/v1/prewarms?wait=true", "services: {app: {build: .}}", "Content-Type", yaml).job(t, http.StatusOK)
	if built.State != puller.StateSucceeded || len(built.Children) != 0 || len(built.Images) != 1 || built.Images[0].State != "skipped" {
		t.Errorf("a file of nothing but what is built is %+v", built)
	}
	if d.Engine.Counts().Pulls != 1 {
		t.Errorf("there were %d pulls", d.Engine.Counts().Pulls)
	}
}

func TestInvalidPrewarms(t *testing.T) {
	d := start(t)
	image := enginetest.NewImage("registry.test/a:v1", 1)
	d.Engine.Tag("registry.test/a:v1", image)
	many := func(n int, entry string) string {
		return `{"images":[` + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + `]}`
	}
	for _, c := range []struct {
		name, query, body, media string
		says                     []string
	}{
		{name: "nothing", body: `{}`, says: []string{"images: missing"}},
		{name: "no images", body: `{"images":[]}`, says: []string{"images: missing"}},
		{name: "null images", body: `{"images":null}`, says: []string{"images: missing"}},
		{name: "1001 images", body: many(1001, `"a"`), says: []string{"images: 1001"}},
		{name: "10,000 images", body: many(10_000, `"a"`), says: []string{"images: 10000"}},
		{name: "100,000 entries that are none", body: many(100_000, `0`), says: []string{"images: 100000"}},
		{name: "a string of images", body: `{"images":"alpine"}`, says: []string{"images: not a list"}},
		{name: "an object of images", body: `{"images":{"0":"alpine"}}`, says: []string{"images: not a list"}},
		{name: "a bad reference among good ones", body: `{"images":["registry.test/a:v1","registry.test/a:v1","UPPER CASE","registry.test/a:v1"]}`, says: []string{"images[2]: image:", "UPPER CASE"}},
		{name: "an empty reference", body: `{"images":["a",""]}`, says: []string{"images[1]: image: missing"}},
		{name: "an entry without an image", body: `{"images":[{"policy":"always"}]}`, says: []string{"images[0]: image: missing"}},
		{name: "null", body: `{"images":["a",null]}`, says: []string{"images[1]: null"}},
		{name: "a number", body: `{"images":["a",7]}`, says: []string{"images[1]: 7"}},
		{name: "a list in the list", body: `{"images":[["a"]]}`, says: []string{`images[0]: ["a"]`}},
		{name: "a truth", body: `{"images":[true]}`, says: []string{"images[0]: true"}},
		{name: "an unknown field in an entry", body: `{"images":["a",{"image":"b","tag":"c"}]}`, says: []string{"images[1]: tag: there is no such field"}},
		{name: "fail_fast in an entry", body: `{"images":[{"image":"b","fail_fast":true}]}`, says: []string{"images[0]: fail_fast: there is no such field"}},
		{name: "several entries of a wrong form", body: `{"images":["a",7,{"image":"b","tag":"c"}]}`, says: []string{"images[1]: 7", "; images[2]: tag: there is no such field"}},
		{name: "several bad entries", body: `{"images":["UPPER","a",{"image":"b","policy":"often"}]}`, says: []string{"images[0]: image:", `; images[2]: policy: "often"`}},
		{name: "1000 bad entries", body: many(1000, `"UPPER"`), says: []string{"images[0]: image:", "; images[1]: image:", " more"}},
		{name: "an unknown field", body: `{"images":["a"],"image":"b"}`, says: []string{"image: there is no such field"}},
		{name: "a bad policy", body: `{"images":["a"],"policy":"often"}`, says: []string{`policy: "often"`}},
		{name: "a bad policy in an entry", body: `{"images":["a",{"image":"b","policy":"often"}]}`, says: []string{`images[1]: policy: "often"`}},
		{name: "a bad priority", body: `{"images":["a"],"priority":"urgent"}`, says: []string{`priority: "urgent"`}},
		{name: "a bad priority in an entry", body: `{"images":[{"image":"b","priority":"urgent"}]}`, says: []string{`images[0]: priority: "urgent"`}},
		{name: "a bad platform", body: `{"images":["a"],"platform":"toaster"}`, says: []string{"platform:", "toaster"}},
		{name: "a bad timeout", body: `{"images":["a"],"timeout":"soon"}`, says: []string{`timeout: "soon"`}},
		{name: "a timeout that is a number", body: `{"images":["a"],"timeout":5}`, says: []string{"timeout: a JSON number"}},
		{name: "a bad timeout in an entry", body: `{"images":[{"image":"b","timeout":"soon"}]}`, says: []string{`images[0]: timeout: "soon"`}},
		{name: "a negative timeout in an entry", body: `{"images":[{"image":"b","timeout":"-5s"}]}`, says: []string{`images[0]: timeout: -5s`}},
		{name: "a timeout in an entry that is a number", body: `{"images":[{"image":"b","timeout":5}]}`, says: []string{"images[0]: timeout: a JSON number"}},
		{name: "bad retries", body: `{"images":["a"],"retries":21}`, says: []string{"retries: 21"}},
		{name: "bad retries in an entry", body: `{"images":["a",{"image":"b","retries":-1}]}`, says: []string{"images[1]: retries: -1"}},
		{name: "retries in an entry that are text", body: `{"images":[{"image":"b","retries":"1"}]}`, says: []string{"images[0]: retries: a JSON string"}},
		{name: "an image that is a number", body: `{"images":[{"image":5}]}`, says: []string{"images[0]: image: a JSON number"}},
		{name: "fail_fast that is text", body: `{"images":["a"],"fail_fast":"yes"}`, says: []string{"fail_fast: a JSON string"}},
		{name: "what was skipped", body: `{"images":["a"],"skipped":[]}`, says: []string{"skipped: there is no such field"}},
		{name: "a body that is cut off", body: `{"images":["a","b`, says: []string{"cut off"}},
		{name: "a body that is cut off in an entry", body: `{"images":[{"image":"a"`, says: []string{"cut off"}},
		{name: "two bodies", body: `{"images":["a"]}{"images":["a"]}`, says: []string{"one object only"}},
		{name: "a list", body: `["a"]`, says: []string{"body: a JSON array"}},
		{name: "no JSON", body: `images: [a]`, says: []string{"not JSON"}},
		{name: "too much", body: `{"images":["` + strings.Repeat("a", 1<<20) + `"]}`, says: []string{"larger than 1 MiB"}},
		{name: "text", body: `{"images":["a"]}`, media: "text/plain", says: []string{"Content-Type", "text/plain"}},
		{name: "a form", body: `{"images":["a"]}`, media: "multipart/form-data; boundary=x", says: []string{"Content-Type"}},
		{name: "a bad content type", body: `{"images":["a"]}`, media: "application/yaml; =", says: []string{"Content-Type"}},
		{name: "JSON with a variable", query: "?var=A=b", body: `{"images":["a"]}`, says: []string{"var:", "Compose file"}},
		{name: "JSON with a profile", query: "?profile=dev", body: `{"images":["a"]}`, says: []string{"profile:"}},
		{name: "JSON with a policy beside it", query: "?policy=always", body: `{"images":["a"]}`, says: []string{"policy:"}},
		{name: "JSON with an empty parameter", query: "?fail_fast=", body: `{"images":["a"]}`, says: []string{"fail_fast:"}},
		{name: "an unknown parameter", query: "?timeout=5s", body: `{"images":["a"]}`, says: []string{"timeout: there is no such query parameter"}},
		{name: "wait twice", query: "?wait=true&wait=true", body: `{"images":["a"]}`, says: []string{"wait: given more than once"}},
		{name: "wait that is neither", query: "?wait=1", body: `{"images":["a"]}`, says: []string{`wait: "1"`}},
		{name: "every that is none", query: "?every=often", body: `{"images":["a"]}`, says: []string{`every: "often"`}},
		{name: "a Compose file with a timeout", query: "?timeout=5s", body: "services: {a: {image: a}}", media: yaml, says: []string{"timeout: there is no such query parameter"}},
		{name: "a variable without a value", query: "?var=TAG", body: "services: {a: {image: a}}", media: yaml, says: []string{`var: "TAG"`}},
		{name: "a variable without a name", query: "?var==v", body: "services: {a: {image: a}}", media: yaml, says: []string{`var: "=v"`}},
		{name: "a Compose file with a bad policy", query: "?policy=often", body: "services: {a: {image: a}}", media: yaml, says: []string{`policy: "often"`}},
		{name: "a Compose file with a bad priority", query: "?priority=urgent", body: "services: {a: {image: a}}", media: yaml, says: []string{`priority: "urgent"`}},
		{name: "a Compose file with a bad platform", query: "?platform=toaster", body: "services: {a: {image: a}}", media: yaml, says: []string{"platform:"}},
		{name: "a Compose file with a bad fail_fast", query: "?fail_fast=1", body: "services: {a: {image: a}}", media: yaml, says: []string{`fail_fast: "1"`}},
		{name: "a Compose file with two policies", query: "?policy=never&policy=always", body: "services: {a: {image: a}}", media: yaml, says: []string{"policy: given more than once"}},
		{name: "a Compose file without services", body: "services: {}", media: yaml, says: []string{""}},
		{name: "no Compose file", body: "", media: yaml, says: []string{"body: empty"}},
		{name: "a Compose file that is none", body: "a: [", media: yaml, says: []string{"line"}},
		{name: "a Compose file that is too large", body: strings.Repeat("#", 1<<20+1), media: yaml, says: []string{"larger than 1 MiB"}},
		{name: "no body", says: []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := []string{"Idempotency-Key", "bad"}
			if c.media != "" {
				header = append(header, "Content-Type", c.media)
			}
			p := d.call("POST", "/v1/prewarms"+c.query, c.body, header...).problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
			for _, words := range c.says {
				if !strings.Contains(p.Detail, words) {
					t.Errorf("it does not say %q: %s", words, p.Detail)
				}
			}
			if len(p.Detail) > 2000 {
				t.Errorf("it says as much as %d bytes", len(p.Detail))
			}
		})
	}
	d.call("POST", "/v1/prewarms", `{"images":["a"]}`, "Idempotency-Key", strings.Repeat("k", 256)).problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
	d.call("POST", "/v1/prewarms", `{"images":["a"]}`, "X-Registry-Auth", "!").problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
	// Nothing was accepted, and no key is taken.
	if jobs, _, err := d.Service.Jobs(puller.Filter{}); err != nil || len(jobs) != 0 {
		t.Errorf("there are %+v, %v", jobs, err)
	}
	d.call("POST", "/v1/prewarms?wait=true", `{"images":["registry.test/a:v1"]}`, "Idempotency-Key", "bad").job(t, http.StatusOK)
}

func TestPrewarmImageLimit(t *testing.T) {
	d := start(t)
	var images []string
	for n := range 1000 {
		name := fmt.Sprintf("registry.test/image%d:v1", n)
		d.Engine.Tag(name, enginetest.NewImage(name, n+1))
		images = append(images, fmt.Sprintf("%q", name))
	}
	parent := d.call("POST", "/v1/prewarms?wait=true", `{"images":[`+strings.Join(images, ",")+`]}`).job(t, http.StatusOK)
	if len(parent.Images) != 1000 || parent.State != puller.StateSucceeded || d.Engine.Counts().Pulls != 0 {
		t.Errorf("it is %s with %d images after %d pulls", parent.State, len(parent.Images), d.Engine.Counts().Pulls)
	}
}

func TestPrewarmCredentials(t *testing.T) {
	d := start(t)
	auth := apitest.RegistryAuth("ada", "hunter2")
	for media, body := range map[string]string{
		"application/json": `{"images":["a.test/x:v1","b.test/x:v1"]}`,
		"application/yaml": "services: {a: {image: 'a.test/x:v1'}, b: {image: 'b.test/x:v1'}}",
	} {
		for _, path := range []string{"/v1/prewarms", "/v1/prewarms?dry_run=true"} {
			p := d.call("POST", path, body, "Content-Type", media, "X-Registry-Auth", auth).problem(t, 400, puller.ErrInvalidRequest)
			if !strings.Contains(p.Detail, "serveraddress") || !strings.Contains(p.Detail, "a.test, b.test") {
				t.Errorf("%s, %s: %s", path, media, p.Detail)
			}
		}
	}
}

func TestPrewarmLogins(t *testing.T) {
	d := start(t)
	var mu sync.Mutex
	shown := make(map[string]string)
	for i, image := range []string{"a.test/x:v1", "b.test/x:v1", "c.test/x:v1"} {
		d.Engine.Script(image, func(p *enginetest.Pull) {
			raw, _ := base64.URLEncoding.DecodeString(p.Auth())
			mu.Lock()
			shown[image] = string(raw)
			mu.Unlock()
			enginetest.Serve(enginetest.NewImage(image, i+1))(p)
		})
	}
	config := base64.URLEncoding.EncodeToString([]byte(`{"a.test":{"username":"ada","password":"p"},"b.test":{"username":"ben","password":"p"},"d.test":{"username":"eve","password":"p"}}`))
	d.call("POST", "/v1/prewarms?wait=true", `{"images":["a.test/x:v1","b.test/x:v1","c.test/x:v1"]}`, "X-Registry-Config", config).job(t, http.StatusOK)
	if !strings.Contains(shown["a.test/x:v1"], "ada") || !strings.Contains(shown["b.test/x:v1"], "ben") || shown["c.test/x:v1"] != "" {
		t.Errorf("the engine sees %v", shown)
	}
	for _, path := range []string{"/v1/prewarms", "/v1/prewarms?dry_run=true"} {
		p := d.call("POST", path, `{"images":["a.test/x:v1"]}`, "X-Registry-Config", "%").problem(t, 400, puller.ErrInvalidRequest)
		if !strings.Contains(p.Detail, "X-Registry-Config") {
			t.Errorf("%s", p.Detail)
		}
	}
}
