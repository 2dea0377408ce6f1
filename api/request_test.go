package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
)

func TestInvalidRequests(t *testing.T) {
	d := start(t)
	long := strings.Repeat("a", 1<<20)
	const good = `{"image":"alpine"}`
	type row struct {
		field string // that the detail begins with
		body  string
		path  string // from /v1/pulls on: a query
		head  []string
	}
	rows := []row{
		// The reference.
		{"image", `{}`, "", nil},
		{"image", `null`, "", nil},
		{"image", `{"image":null}`, "", nil},
		{"image", `{"image":""}`, "", nil},
		{"image", `{"image":"` + long[:2000] + `"}`, "", nil},
		{"image", `{"image":["alpine"]}`, "", nil},
		{"image", `{"image":7}`, "", nil},
		// The other fields.
		{"platform", `{"image":"alpine","platform":"linux/"}`, "", nil},
		{"platform", `{"image":"alpine","platform":"linux/x86"}`, "", nil},
		{"platform", `{"image":"alpine","platform":"amiga/amd64"}`, "", nil},
		{"platform", `{"image":"alpine","platform":"linux/arm64/v99"}`, "", nil},
		{"platform", `{"image":"alpine","platform":"linux/arm64/v8/x"}`, "", nil},
		{"platform", `{"image":"alpine","platform":{"os":"linux"}}`, "", nil},
		{"policy", `{"image":"alpine","policy":"sometimes"}`, "", nil},
		{"policy", `{"image":"alpine","policy":true}`, "", nil},
		{"priority", `{"image":"alpine","priority":"now"}`, "", nil},
		{"priority", `{"image":"alpine","priority":1}`, "", nil},
		{"timeout", `{"image":"alpine","timeout":"soon"}`, "", nil},
		{"timeout", `{"image":"alpine","timeout":""}`, "", nil},
		{"timeout", `{"image":"alpine","timeout":90}`, "", nil},
		{"timeout", `{"image":"alpine","timeout":"-1s"}`, "", nil},
		{"timeout", `{"image":"alpine","timeout":"1000h"}`, "", nil},
		{"timeout", `{"image":"alpine","timeout":"` + long[:300] + `"}`, "", nil},
		{"retries", `{"image":"alpine","retries":"3"}`, "", nil},
		{"retries", `{"image":"alpine","retries":1.5}`, "", nil},
		{"retries", `{"image":"alpine","retries":-1}`, "", nil},
		{"retries", `{"image":"alpine","retries":21}`, "", nil},
		{"retries", `{"image":"alpine","retries":99999999999999999999}`, "", nil},
		{"pltform", `{"image":"alpine","pltform":"linux/amd64"}`, "", nil},
		{"credentials", `{"image":"alpine","Credentials":{}}`, "", nil},
		// The body.
		{"body", ``, "", []string{"Content-Type", "application/json"}},
		{"body", ` `, "", nil},
		{"body", `{"image":"alp`, "", nil},
		{"body", `{"image"`, "", nil},
		{"body", `{image:alpine}`, "", nil},
		{"body", "\xff\xfe", "", nil},
		{"body", `[{"image":"alpine"}]`, "", nil},
		{"body", `7`, "", nil},
		{"body", `"alpine"`, "", nil},
		{"body", good + good, "", nil},
		{"body", good + ` x`, "", nil},
		{"body", `{"image":"` + long + `"}`, "", nil},
		{"body", good + strings.Repeat(" ", 1<<20), "", nil},
		{"body", strings.Repeat("[", 20000), "", nil},
		// Headers.
		{"Content-Type", good, "", []string{"Content-Type", "text/plain"}},
		{"Content-Type", good, "", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"Content-Type", good, "", []string{"Content-Type", "application/json/x;;"}},
		{"Content-Type", good, "", []string{"Content-Type", ""}},
		{"X-Registry-Auth", good, "", []string{"X-Registry-Auth", "%%%"}},
		{"X-Registry-Auth", good, "", []string{"X-Registry-Auth", "bm90IGpzb24="}},
		{"X-Registry-Auth", good, "", []string{"X-Registry-Auth", "W10="}}, // []
		{"X-Registry-Auth", good, "", []string{"X-Registry-Auth", "bnVsbA=="}},
		{"X-Registry-Auth", good, "", []string{"X-Registry-Auth", apitest.RegistryAuth("", "x")}},
		{"X-Registry-Auth", good, "", []string{"X-Registry-Auth", apitest.RegistryAuth("ada", long[:70000])}},
		// The query.
		{"wait", good, "?wait=yes", nil},
		{"wait", good, "?wait=1", nil},
		{"wait", good, "?wait=true&wait=true", nil},
		{"every", good, "?every=often", nil},
		{"every", good, "?every=5", nil},
		{"every", good, "?every=-1s", nil},
		{"every", good, "?every=2m", nil},
		{"wiat", good, "?wiat=true", nil},
		{"since", good, "?since=1", nil},
		{"query", good, "?wait=true;x", nil},
		{"query", good, "?wait=%zz", nil},
	}
	for _, image := range []string{
		"alpine/UPPER", "a b", " alpine", "alpine ", "alpine:", "alpine@", "alpine@sha256:12", "alpine@md5:d41d8cd98f00b204e9800998ecf8427e",
		"-alpine", "alpine:-x", "alpine:" + long[:129], "http://registry.test/app", "registry.test:port/app", "a//b", "/alpine", "../etc", "ä", "a\nb", "a\x00b",
		"alpine:3.20@sha512:00", "registry.test/" + long[:256], strings.Repeat("0", 64),
	} {
		body, _ := json.Marshal(map[string]string{"image": image})
		rows = append(rows, row{"image", string(body), "", nil})
	}
	for _, r := range rows {
		a := d.call("POST", "/v1/pulls"+r.path, r.body, r.head...)
		checkRefused(t, "POST /v1/pulls"+r.path, r.body, a, r.field)
	}
	if jobs := d.list("").Jobs; len(jobs) != 0 {
		t.Errorf("%d jobs were submitted, such as %+v", len(jobs), jobs[0])
	}
	if c := d.Engine.Counts(); c.Pulls != 0 || c.Inspects != 0 {
		t.Errorf("the engine was asked: %+v", c)
	}

	d.good("alpine", 1)
	id := d.pull("alpine").ID
	for _, r := range []row{
		{"limit", "", "/v1/jobs?limit=0", nil},
		{"limit", "", "/v1/jobs?limit=-1", nil},
		{"limit", "", "/v1/jobs?limit=1001", nil},
		{"limit", "", "/v1/jobs?limit=x", nil},
		{"state", "", "/v1/jobs?state=done", nil},
		{"kind", "", "/v1/jobs?kind=push", nil},
		{"image", "", "/v1/jobs?image=UPPER", nil},
		{"nope", "", "/v1/jobs?nope=1", nil},
		{"state", "", "/v1/jobs?state=failed&state=active", nil},
		{"nope", "", "/v1/jobs/" + id + "?nope", nil},
		{"since", "", "/v1/jobs/" + id + "/events?since=x", nil},
		{"since", "", "/v1/jobs/" + id + "/events?since=-1", nil},
		{"since", "", "/v1/jobs/" + id + "/events?since=18446744073709551616", nil},
		{"Last-Event-ID", "", "/v1/jobs/" + id + "/events", []string{"Last-Event-ID", "x"}},
		{"every", "", "/v1/jobs/" + id + "/events?every=x", nil},
		{"wait", "", "/v1/jobs/" + id + "/events?wait=true", nil},
		{"x", "", "/healthz?x=1", nil},
		{"x", "", "/readyz?x=1", nil},
		{"x", "", "/v1/engine?x=1", nil},
	} {
		checkRefused(t, "GET "+r.path, "", d.call("GET", r.path, "", r.head...), r.field)
	}
}

func checkRefused(t *testing.T, what, body string, a answer, field string) {
	t.Helper()
	if len(body) > 80 {
		body = body[:80] + "…"
	}
	if a.Status != http.StatusBadRequest {
		t.Errorf("%s %s: %d %s", what, body, a.Status, a.Body)
		return
	}
	p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
	if name, _, _ := strings.Cut(p.Detail, ":"); !strings.EqualFold(name, field) {
		t.Errorf("%s %s: the detail does not name %s: %s", what, body, field, p.Detail)
	}
	if len(p.Detail) > 600 {
		t.Errorf("%s %s: the detail is %d bytes long", what, body, len(p.Detail))
	}
}
