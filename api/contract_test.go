package api_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/api/dockerapi"
	"github.com/towline/towline/api/guard"
)

// TestContract compares the routes with the contract. What they take and answer is
// compared in all other tests, by contracttest.Wrap.
func TestContract(t *testing.T) {
	contract := contracttest.Load()
	server := api.New(nil, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true})

	t.Run("routes", func(t *testing.T) {
		documented := make(map[string][]string)
		for _, o := range contract.Operations() {
			if !o.Docker {
				documented[o.String()] = slices.Sorted(slices.Values(o.Query))
			}
		}
		served := make(map[string][]string)
		for pattern, params := range server.Routes() {
			served[pattern] = slices.Sorted(slices.Values(params))
		}
		if diff := cmp.Diff(served, documented); diff != "" {
			t.Errorf("routes with their query parameters (-served +in openapi.yaml):\n%s", diff)
		}
	})
	t.Run("docker", func(t *testing.T) {
		for _, o := range contract.Operations() {
			if _, _, ok := dockerapi.SplitPath(o.Path); ok != o.Docker {
				t.Errorf("%s: the tag docker is %t, but the path is Docker's: %t", o, o.Docker, ok)
			}
		}
	})
	t.Run("scopes", func(t *testing.T) {
		for _, o := range contract.Operations() {
			pattern := o.String()
			switch {
			case o.Docker:
				pattern = ""
			case o.Path == "/":
				pattern += "{$}"
			}
			scope := guard.ScopeOf(httptest.NewRequest(o.Method, o.Path, nil), pattern)
			want := []string{string(scope)}
			switch {
			case scope == auth.Anyone:
				want = nil
			case pattern == "DELETE /v1/jobs/{id}":
				want = []string{string(auth.ScopePull)} // of most jobs
			case scope == auth.Known:
				want = []string{}
			}
			if diff := cmp.Diff(want, o.Scopes); diff != "" {
				t.Errorf("%s: scopes (-needed +in openapi.yaml):\n%s", o, diff)
			}
		}
	})
	t.Run("kinds", func(t *testing.T) {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(api.Statuses())), slices.Sorted(slices.Values(contract.Enum("ErrorKind")))); diff != "" {
			t.Errorf("error kinds (-known +in openapi.yaml):\n%s", diff)
		}
	})
	t.Run("table", func(t *testing.T) {
		page, err := os.ReadFile("README.md")
		if err != nil {
			t.Fatal(err)
		}
		told := make(map[string]int)
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d{3}) \\|").FindAllStringSubmatch(string(page), -1) {
			told[row[1]], _ = strconv.Atoi(row[2])
		}
		if diff := cmp.Diff(api.Statuses(), told); diff != "" {
			t.Errorf("statuses of error kinds (-answered +in README.md):\n%s", diff)
		}
	})
	t.Run("unused", func(t *testing.T) {
		if unused := contract.Unused(); len(unused) > 0 {
			t.Errorf("nothing in openapi.yaml refers to %s", strings.Join(unused, ", "))
		}
	})
}

func TestDocument(t *testing.T) {
	g := start(t).guarded()
	for path, media := range map[string]string{
		"/openapi.yaml": "application/yaml", "/docs": "text/html; charset=utf-8", "/": "text/html; charset=utf-8",
		"/ui/index.html": "text/html; charset=utf-8", "/ui/app.js": "text/javascript; charset=utf-8", "/ui/style.css": "text/css; charset=utf-8", "/ui/icon.svg": "image/svg+xml",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := g.call(method, path, "")
			if a.Status != http.StatusOK || a.Header.Get("Content-Type") != media || (a.Body == "") != (method == "HEAD") {
				t.Errorf("%s %s: %d, %q, %d bytes", method, path, a.Status, a.Header.Get("Content-Type"), len(a.Body))
			}
		}
	}
	for _, path := range []string{"/ui/none.js", "/ui/", "/ui/a/b", "/ui/..%2fui.go"} {
		if a := g.call("GET", path, ""); a.Status != http.StatusNotFound && a.Status != http.StatusUnauthorized {
			t.Errorf("GET %s: %d %s", path, a.Status, a.Body)
		}
	}
}
