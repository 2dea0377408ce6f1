package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestDockersClientsFindTheVersionTheyCanSpeak(t *testing.T) {
	d := start(t)
	for _, path := range []string{"/_ping", "/v1.24/_ping", "/v1.41/_ping", "/v1.51/_ping"} {
		for method, body := range map[string]string{"GET": "OK", "HEAD": ""} {
			a := d.call(method, path, "")
			if a.status != http.StatusOK || a.body != body {
				t.Errorf("%s %s is %d %q", method, path, a.status, a.body)
			}
			for name, want := range map[string]string{"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false", "Server": "Towline"} {
				if got := a.header.Get(name); got != want {
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
		for _, path := range []string{"/_ping", "/images/create?fromImage=alpine&tag=v1", "/nope"} {
			method := "GET"
			if strings.Contains(path, "create") {
				method = "POST"
			}
			checkMessage(t, d.call(method, "/"+version+path, ""), 400, words)
		}
	}
	if jobs := d.list("").Jobs; len(jobs) != 0 {
		t.Errorf("there are jobs: %+v", jobs)
	}
}

func TestDockersClientsAreToldOfTheEngine(t *testing.T) {
	d := start(t)
	var version, info map[string]any
	ask := func() (a, b answer) { return d.call("GET", "/v1.41/version", ""), d.call("GET", "/info", "") }
	v, i := ask()
	v.decode(t, 200, "application/json", &version)
	for name, want := range map[string]string{"Version": "20.10.24", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"} {
		if version[name] != want {
			t.Errorf("%s is %v, want %s", name, version[name], want)
		}
	}
	i.decode(t, 200, "application/json", &info)
	for name, want := range map[string]string{"ServerVersion": "20.10.24", "OSType": "linux", "Architecture": "amd64", "Driver": "overlay2", "IndexServerAddress": "https://index.docker.io/v1/"} {
		if info[name] != want {
			t.Errorf("%s is %v, want %s", name, info[name], want)
		}
	}
	d.engine.Kill()
	v, i = ask()
	checkMessage(t, v, 503, "Cannot connect")
	checkMessage(t, i, 503, "Cannot connect")
	if a := d.call("GET", "/_ping", ""); a.status != 200 {
		t.Errorf("without its engine the daemon does not answer: %d %s", a.status, a.body)
	}
}

func TestDockersClientsInspectAnImage(t *testing.T) {
	d := start(t)
	image := enginetest.NewImage("registry.test/team/app:v1", 1)
	image.Platform = "linux/arm64/v8"
	d.engine.Tag("registry.test/team/app:v1", image)
	for _, name := range []string{"registry.test/team/app:v1", image.ID} {
		var got struct {
			ID                        string `json:"Id"`
			RepoDigests               []string
			Os, Architecture, Variant string
			Size                      int64
			RootFS                    struct{ Layers []string }
		}
		d.call("GET", "/v1.41/images/"+name+"/json", "").decode(t, 200, "application/json", &got)
		if got.ID != image.ID || !slices.Equal(got.RepoDigests, image.RepoDigests) || got.Size != image.Size ||
			got.Os+got.Architecture+got.Variant != "linuxarm64v8" || !slices.Equal(got.RootFS.Layers, image.DiffIDs) {
			t.Errorf("%s is %+v", name, got)
		}
	}
	for platform, status := range map[string]int{
		`{"os":"linux","architecture":"arm64"}`: 200, `{"os":"linux","architecture":"aarch64","variant":""}`: 200, `{"os":"linux","architecture":"amd64"}`: 404,
		`{"os":"windows","architecture":"amd64"}`: 404, `{}`: 400, `linux/amd64`: 400, `{"os":"linux"}`: 400, `[]`: 400, ``: 200,
	} {
		if a := d.call("GET", "/v1.49/images/registry.test/team/app:v1/json?platform="+url.QueryEscape(platform), ""); a.status != status {
			t.Errorf("for the platform %s the answer is %d %s", platform, a.status, a.body)
		}
	}
	checkMessage(t, d.call("GET", "/images/nope/json", ""), 404, "No such image")
	checkMessage(t, d.call("GET", "/images/UPPER/json", ""), 400, "image: ")
	checkMessage(t, d.call("GET", "/images/a%20b/json", ""), 400, "image: ")
	checkMessage(t, d.call("GET", "/images//json", ""), 400, "image: ")
	d.engine.Kill()
	checkMessage(t, d.call("GET", "/images/registry.test/team/app:v1/json", ""), 503, "Cannot connect")
}

func TestWhatDockersClientsAskBesidesIsRefusedInTheirForm(t *testing.T) {
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
		a := d.call(r.method, r.path, "")
		checkMessage(t, a, r.status, "is not for towline")
		if !strings.Contains(a.body, "POST /images/create") {
			t.Errorf("%s %s: it is not said what there is: %s", r.method, r.path, a.body)
		}
	}
	// What is Towline's own keeps its form.
	for _, path := range []string{"/v1/images/create", "/v1/_ping", "/v1/nope", "/v2/_ping", "/nope", "/", "/vx.y/_ping", "/imagesx"} {
		a := d.call("GET", path, "")
		a.problem(t, 404, puller.ErrNotFound)
		if a.header.Get("Api-Version") != "" {
			t.Errorf("%s is taken for Docker's", path)
		}
	}
	if a := d.call("GET", "/v1/jobs", ""); a.status != 200 || a.header.Get("Api-Version") != "" {
		t.Errorf("/v1/jobs is answered with %d, %v", a.status, a.header)
	}
}
