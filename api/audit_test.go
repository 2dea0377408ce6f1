package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestAudit(t *testing.T) {
	d := start(t)
	for i, image := range []string{"registry.test/a:v1", "registry.test/b:v1"} {
		d.Engine.Script(image, enginetest.Serve(enginetest.NewImage(image, i+1)))
	}
	g := d.guarded()
	lines := func(message string) (all []string) {
		for _, line := range strings.Split(d.Logs.String(), "\n") {
			if strings.Contains(line, `msg="`+message+`"`) {
				all = append(all, line)
			}
		}
		return all
	}
	source := ` source="127\.0\.0\.1:\d+"`
	g.call("POST", "/v1/pulls?wait=true", `{"image":"registry.test/a:v1"}`, "Authorization", "Bearer "+pulls).job(t, http.StatusOK)
	g.call("POST", "/v1/prewarms?wait=true", `{"images":["registry.test/a:v1","registry.test/b:v1"]}`, "Authorization", "Bearer "+pulls).job(t, http.StatusOK)
	g.call("POST", "/images/create?fromImage=registry.test/b&tag=v1", "", "X-Registry-Auth", apitest.RegistryAuth("puller", pulls))
	g.call("POST", "/v1/pulls", `{"image":"x"}`, "Authorization", "Bearer canary-guessed").problem(t, http.StatusUnauthorized, puller.ErrUnauthorized)
	g.call("POST", "/v1/runs?wait=true", `{"image":"x"}`, "Authorization", "Bearer "+reader).problem(t, http.StatusForbidden, puller.ErrForbidden)
	for message, want := range map[string][]string{
		"job accepted": {
			` caller="token:puller" image="registry.test/a:v1" job=\w{26} kind=pull route="POST /v1/pulls"` + source,
			` caller="token:puller" images=2 job=\w{26} kind=prewarm route="POST /v1/prewarms"` + source,
		},
		"request refused": {
			` caller="addr:127.0.0.1" error=".*" kind=unauthorized route="POST /v1/pulls"` + source,
			` caller="token:reader" error=".*" kind=forbidden route="POST /v1/runs"` + source,
		},
	} {
		got := lines(message)
		for _, w := range want {
			found := 0
			for _, line := range got {
				if regexp.MustCompile(w).MatchString(line) {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%d lines have %s:\n%s", found, w, strings.Join(got, "\n"))
			}
		}
	}
	if strings.Contains(d.Logs.String(), "canary-") {
		t.Errorf("a secret is logged:\n%s", d.Logs.String())
	}
}
