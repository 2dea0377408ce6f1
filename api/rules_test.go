package api_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/pullertest"
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
		o.Tokens = openTokens(t, tokenFile(t, "tokens:\n"+listed("puller", pulls, "pull, run, read")+ruled+listed("boss", boss, "admin")), d.logs)
	}
}

func TestEveryWayInIsHeldToTheCallersRules(t *testing.T) {
	d := start(t)
	for i, image := range []string{"alpine:v1", "never-run:v1"} {
		d.good(image, i+1)
	}
	d.engine.Tag("docker.io/team/app:v1", pullertest.NewImage("docker.io/team/app:v1", 3))
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
		{"GET", "/images/" + pullertest.NewImage("docker.io/team/app:v1", 3).ID + "/json", "", "", "the rules forbid all names"},

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
		case c.rule == "" && a.status != http.StatusOK:
			t.Errorf("%s: %d %s", what, a.status, a.body)
		case c.rule != "" && (a.status != http.StatusForbidden || !strings.Contains(a.body, c.rule)):
			t.Errorf("%s: %d %s has no %q", what, a.status, a.body, c.rule)
		case c.rule != "" && strings.HasPrefix(c.path, "/v1/") && !strings.Contains(a.body, `"kind":"forbidden"`):
			t.Errorf("%s: %s", what, a.body)
		}
	}
	if a := g.call("POST", "/v1/pulls?wait=true", `{"image":"team/app:v1"}`, bearer(boss)...); a.status != http.StatusOK {
		t.Errorf("another caller: %d %s", a.status, a.body)
	}
	for _, j := range d.list("").Jobs {
		if strings.Contains(j.Image, "team") && j.Policy != puller.Missing {
			t.Errorf("there is a job of what was forbidden: %+v", j)
		}
	}
}

func TestASessionIsHeldToTheRulesOfItsToken(t *testing.T) {
	d := start(t)
	g := d.guarded(withRules(t, d))
	a := g.call("POST", "/v1/session", `{"token":"`+pulls+`"}`)
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	if a = g.call("POST", "/v1/pulls", `{"image":"team/app:v1"}`, "Cookie", cookie); a.status != http.StatusForbidden || !strings.Contains(a.body, "rules.pull.allow") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestRulesOfATokenFileAreCheckedAndReadAnew(t *testing.T) {
	for content, want := range map[string]string{
		"    rules: {pul: {}}\n":                    "there is no field pul",
		"    rules: {pull: {alow: []}}\n":           "there is no field alow",
		"    rules: {pull: {allow: [alpine]}}\n":    "line 5: token:a's rules.pull.allow: \"alpine\" does not begin with a registry",
		"    rules: {run: {policies: [x]}}\n":       "token:a's rules.run.policies: policy: \"x\"",
		"    rules: {pull: {require_digest: 7}}\n":  "line 5",
		"    rules: []\n":                           "line 5",
		"    rules: {pull: {deny: docker.io/**}}\n": "line 5",
		"    rules: {pull: {platforms: [amd64]}}\n": "rules.pull.platforms: \"amd64\"",
	} {
		path := tokenFile(t, "tokens:\n"+listed("a", "x", "pull")+content)
		if _, err := api.OpenTokens(path, logrus.New()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v has no %q", content, err, want)
		}
	}
	said := &safeBuffer{}
	certified := "certificates:\n  - name: host\n    scopes: [pull]\n" + ruled
	openTokens(t, tokenFile(t, certified), said)
	bad := tokenFile(t, strings.Replace(certified, "docker.io/library/*", "alpine", 1))
	if _, err := api.OpenTokens(bad, logrus.New()); err == nil || !strings.Contains(err.Error(), "cert:host's rules.pull.allow") {
		t.Errorf("%v", err)
	}
}

func TestANewTokenLeavesTheRulesOfOthersAlone(t *testing.T) {
	path := tokenFile(t, "tokens:\n"+listed("a", "x", "pull")+ruled)
	token, err := api.MakeToken("b", []api.Scope{api.ScopePull}, time.Time{})
	if err == nil {
		err = token.AddTo(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(content), "docker.io/library/never-run") {
		t.Errorf("%s, %v", content, err)
	}
	openTokens(t, path, &safeBuffer{})
}
