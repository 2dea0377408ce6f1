package dockerapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller/enginetest"
)

func TestVersions(t *testing.T) {
	d := start(t)
	for _, path := range []string{"/_ping", "/v1.24/_ping", "/v1.41/_ping", "/v1.51/_ping"} {
		for method, body := range map[string]string{"GET": "OK", "HEAD": ""} {
			a := d.Call(method, path, "")
			if a.Status != http.StatusOK || a.Body != body {
				t.Errorf("%s %s is %d %q", method, path, a.Status, a.Body)
			}
			for name, want := range map[string]string{"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false", "Server": "Towline"} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s %s: %s is %q, want %q", method, path, name, got, want)
				}
			}
		}
	}
	for version, words := range map[string]string{
		"v1.23": "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"v0.9":  "client version 0.9 is too old.",
		"v1.52": "client version 1.52 is too new. Maximum supported API version is 1.51",
		"v2.0":  "client version 2.0 is too new.",
		"v1.":   "is not a version", "v.": "is not a version", "v1.2.3": "is not a version", "v1.99999999999999999999": "is not a version",
	} {
		checkMessage(t, d.Call("GET", "/"+version+"/_ping", ""), 400, words)
		checkMessage(t, d.Call("POST", "/"+version+"/images/create?fromImage=alpine&tag=v1", ""), 400, words)
		checkMessage(t, d.Call("GET", "/"+version+"/nope", ""), 400, words)
	}
	if jobs := d.jobs(); len(jobs) != 0 {
		t.Errorf("there are jobs: %+v", jobs)
	}
}

func TestEngine(t *testing.T) {
	d := start(t)
	check := func(path string, want map[string]string) {
		t.Helper()
		var got map[string]any
		d.Call("GET", path, "").Decode(t, 200, "application/json", &got)
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %v, want %s", path, name, got[name], value)
			}
		}
	}
	check("/v1.41/version", map[string]string{"Version": "20.10.24", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"})
	check("/info", map[string]string{"ServerVersion": "20.10.24", "OSType": "linux", "Architecture": "amd64", "Driver": "overlay2", "IndexServerAddress": "https://index.docker.io/v1/"})
	d.Engine.Kill()
	checkMessage(t, d.Call("GET", "/v1.41/version", ""), 503, "Cannot connect")
	checkMessage(t, d.Call("GET", "/info", ""), 503, "Cannot connect")
	if a := d.Call("GET", "/_ping", ""); a.Status != 200 {
		t.Errorf("without an engine, the daemon answers with %d %s", a.Status, a.Body)
	}
}

// inspected is an apitest.Answer of GET /images/{name}/json.
type inspected struct {
	ID                        string `json:"Id"`
	RepoDigests               []string
	Os, Architecture, Variant string
	Size                      int64
	RootFS                    struct{ Layers []string }
}

func TestInspect(t *testing.T) {
	d := start(t)
	image := enginetest.NewImage("registry.test/team/app:v1", 1)
	image.Platform = "linux/arm64/v8"
	d.Engine.Tag("registry.test/team/app:v1", image)
	for _, name := range []string{"registry.test/team/app:v1", image.ID} {
		var got inspected
		d.Call("GET", "/v1.41/images/"+name+"/json", "").Decode(t, 200, "application/json", &got)
		want := inspected{ID: image.ID, RepoDigests: image.RepoDigests, Os: "linux", Architecture: "arm64", Variant: "v8", Size: image.Size}
		want.RootFS.Layers = image.DiffIDs
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for platform, status := range map[string]int{
		`{"os":"linux","architecture":"arm64"}`: 200, `{"os":"linux","architecture":"aarch64","variant":""}`: 200, `{"os":"linux","architecture":"amd64"}`: 404,
		`{"os":"windows","architecture":"amd64"}`: 404, `{}`: 400, `linux/amd64`: 400, `{"os":"linux"}`: 400, `[]`: 400, ``: 200,
	} {
		if a := d.Call("GET", "/v1.49/images/registry.test/team/app:v1/json?platform="+url.QueryEscape(platform), ""); a.Status != status {
			t.Errorf("for the platform %s the apitest.Answer is %d %s", platform, a.Status, a.Body)
		}
	}
	checkMessage(t, d.Call("GET", "/images/nope/json", ""), 404, "No such image")
	checkMessage(t, d.Call("GET", "/images/UPPER/json", ""), 400, "image: ")
	checkMessage(t, d.Call("GET", "/images/a%20b/json", ""), 400, "image: ")
	checkMessage(t, d.Call("GET", "/images//json", ""), 400, "image: ")
	d.Engine.Kill()
	checkMessage(t, d.Call("GET", "/images/registry.test/team/app:v1/json", ""), 503, "Cannot connect")
}

func TestOtherRoutes(t *testing.T) {
	d := start(t)
	for _, r := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/containers/json", 404},
		{"GET", "/v1.41/containers/json", 404},
		{"GET", "/v1.41/networks/app_default", 404},
		{"GET", "/images/json", 404},
		{"GET", "/v1.41/images/create", 404},
		{"GET", "/v1.41/nope", 404},
		{"GET", "/v1.41/", 404},
		{"GET", "/v1.41", 404},
		{"GET", "/v1.41/v1/jobs", 404},
		{"GET", "/v1.41/jobs", 404},
		{"GET", "/v1.41/healthz", 404},
		{"GET", "/events", 404},
		{"GET", "/libpod/info", 404},
		{"POST", "/v1.41/containers/create", 403},
		{"POST", "/containers/create", 403},
		{"POST", "/build", 403},
		{"POST", "/session", 403},
		{"POST", "/images/load", 403},
		{"POST", "/_ping", 403},
		{"POST", "/images/alpine/json", 403},
		{"POST", "/images//create", 403},
		{"PUT", "/images/create", 403},
		{"DELETE", "/images/alpine", 403},
		{"POST", "/v1.41/images/alpine/push", 403},
	} {
		a := d.Call(r.method, r.path, "")
		checkMessage(t, a, r.status, "is not for towline")
		if !strings.Contains(a.Body, "POST /images/create") {
			t.Errorf("%s %s: the apitest.Answer does not name the routes: %s", r.method, r.path, a.Body)
		}
	}
	// Towline's own paths have Towline's own answers.
	for _, path := range []string{"/v1/images/create", "/v1/_ping", "/v1/nope", "/v2/_ping", "/nope", "/vx.y/_ping", "/imagesx"} {
		a := d.Call("GET", path, "")
		if a.Status != 404 || a.Header.Get("Content-Type") != "application/problem+json" || a.Header.Get("Api-Version") != "" {
			t.Errorf("GET %s is %d, %v, %s", path, a.Status, a.Header, a.Body)
		}
	}
	if a := d.Call("GET", "/", ""); a.Status != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") || a.Header.Get("Api-Version") != "" {
		t.Errorf("GET / is %d, %v", a.Status, a.Header)
	}
	if a := d.Call("GET", "/v1/jobs", ""); a.Status != 200 || a.Header.Get("Api-Version") != "" {
		t.Errorf("GET /v1/jobs is %d, %v", a.Status, a.Header)
	}
}
