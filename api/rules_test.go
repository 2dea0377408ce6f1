package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// ruled are the rules of a caller, as a token file has them.
const ruled = `    rules:
      pull:
        allow: [docker.io/library/*]
        deny: ["**:latest"]
        policies: [missing, always]
      run:
        deny: [docker.io/library/never-run]
`

// withRules has the tokens of the tests hold to rules.
func withRules(t *testing.T, d *daemon) func(*api.Options) {
	return func(o *api.Options) {
		o.Tokens = authtest.Open(t, authtest.File(t, "tokens:\n"+authtest.Listed("puller", pulls, "pull, run, read")+ruled+authtest.Listed("boss", boss, "admin")), d.Logs)
	}
}

func TestCallerRules(t *testing.T) {
	d := start(t)
	for i, image := range []string{"alpine:v1", "never-run:v1"} {
		d.good(image, i+1)
	}
	d.Engine.Tag("docker.io/team/app:v1", enginetest.NewImage("docker.io/team/app:v1", 3))
	g := d.guarded(withRules(t, d))
	const name = "token:puller's rules."
	for _, c := range []struct {
		method, path, body, media string
		rule                      string
	}{
		{"POST", "/v1/pulls", `{"image":"team/app:v1"}`, "", "docker.io/team/app:v1: no pattern of " + name + "pull.allow has it; there are docker.io/library/*"},
		{"POST", "/v1/pulls?wait=true", `{"image":"alpine"}`, "", "docker.io/library/alpine:latest: " + name + "pull.deny forbids **:latest"},
		{"POST", "/v1/pulls", `{"image":"alpine:v1","policy":"never"}`, "", "policy never is not in " + name + "pull.policies"},
		{"POST", "/v1/pulls", `{"image":"INDEX.docker.io/team/app:v1"}`, "", name + "pull.allow"},
		{"POST", "/v1/prewarms", `{"images":["alpine:v1","team/app:v1"]}`, "", "images[1]: docker.io/team/app:v1: "},
		{"POST", "/v1/prewarms?dry_run=true", `{"images":["alpine:v1",{"image":"team/app:v1"}]}`, "", "images[1]: docker.io/team/app:v1: "},
		{"POST", "/v1/prewarms", "services: {a: {image: 'alpine:v1'}, b: {image: 'team/app:v1'}}", "application/yaml", "images[1]: docker.io/team/app:v1: "},
		{"POST", "/v1/prewarms?policy=never", "services: {a: {image: 'alpine:v1'}}", "application/yaml", "images[0]: docker.io/library/alpine:v1: the policy never"},
		{"POST", "/v1/runs", `{"image":"team/app:v1"}`, "", name + "pull.allow"},
		{"POST", "/v1/runs", `{"image":"never-run:v1"}`, "", name + "run.deny forbids docker.io/library/never-run"},
		{"POST", "/images/create?fromImage=team/app&tag=v1", "", "", name + "pull.allow"},
		{"POST", "/v1.41/images/create?fromImage=alpine&tag=latest", "", "", name + "pull.deny"},
		{"POST", "/images/create?fromImage=docker.io/team/app&tag=v1", "", "", name + "pull.allow"},
		{"GET", "/images/team/app:v1/json", "", "", name + "pull.allow"},
		{"GET", "/v1.41/images/docker.io/team/app:v1/json", "", "", name + "pull.allow"},
		{"GET", "/images/" + enginetest.NewImage("docker.io/team/app:v1", 3).ID + "/json", "", "", "the rules forbid all names"},

		{"POST", "/v1/pulls?wait=true", `{"image":"alpine:v1"}`, "", ""},
		{"POST", "/v1/pulls?wait=true", `{"image":"never-run:v1"}`, "", ""},
		{"POST", "/images/create?fromImage=alpine&tag=v1", "", "", ""},
		{"GET", "/images/alpine:v1/json", "", "", ""},
	} {
		header := bearer(pulls)
		if c.media != "" {
			header = append(header, "Content-Type", c.media)
		}
		a := g.call(c.method, c.path, c.body, header...)
		what := c.method + " " + c.path + " " + c.body
		switch {
		case c.rule == "" && a.Status != http.StatusOK:
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		case c.rule != "" && (a.Status != http.StatusForbidden || !strings.Contains(a.Body, c.rule)):
			t.Errorf("%s: %d %s has no %q", what, a.Status, a.Body, c.rule)
		case c.rule != "" && strings.HasPrefix(c.path, "/v1/") && !strings.Contains(a.Body, `"kind":"forbidden"`):
			t.Errorf("%s: %s", what, a.Body)
		}
	}
	if a := g.call("POST", "/v1/pulls?wait=true", `{"image":"team/app:v1"}`, bearer(boss)...); a.Status != http.StatusOK {
		t.Errorf("another caller: %d %s", a.Status, a.Body)
	}
	for _, j := range d.list("").Jobs {
		if strings.Contains(j.Image, "team") && j.Policy != puller.PolicyMissing {
			t.Errorf("there is a job of what was forbidden: %+v", j)
		}
	}
}

func TestSessionRules(t *testing.T) {
	d := start(t)
	g := d.guarded(withRules(t, d))
	a := g.call("POST", "/v1/session", `{"token":"`+pulls+`"}`)
	cookie, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	if a = g.call("POST", "/v1/pulls", `{"image":"team/app:v1"}`, "Cookie", cookie); a.Status != http.StatusForbidden || !strings.Contains(a.Body, "rules.pull.allow") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
