package docker_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
)

const multi = "registry.test/multi:v1"

// recorded is what Moby's main branch of August 2026 answered for an index with the
// containerd image store: "plain", with "manifests", and for a platform.
type recorded map[string]map[string]any

func load(t *testing.T, state string) (r recorded) {
	t.Helper()
	data, err := os.ReadFile("testdata/containerd-" + state + ".json")
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// index returns what was recorded as a scripted engine has it.
func (r recorded) index() enginetest.Index {
	x := enginetest.NewIndex(multi, 1, "linux/amd64", "linux/arm64")
	x.Digest = r["manifests"]["Id"].(string)
	for n, m := range r["manifests"]["Manifests"].([]any) {
		i := &x.Images[n]
		i.Manifest, i.RepoDigests = m.(map[string]any)["ID"].(string), []string{"registry.test/multi@" + x.Digest}
		i.DiffIDs = nil
		if answer, ok := r[i.Platform]; ok {
			layers, _ := answer["RootFS"].(map[string]any)["Layers"].([]any)
			for _, l := range layers {
				i.DiffIDs = append(i.DiffIDs, l.(string))
			}
		}
	}
	return x
}

// states are those in which the answers were recorded: a pull of linux/arm64; then
// one of linux/amd64 that was cut when its configuration had come; then a good one.
var states = []struct {
	name         string
	amd64, arm64 puller.Content
}{
	{"one", puller.ContentUnknown, puller.ContentWhole},
	{"half", puller.ContentPartial, puller.ContentWhole},
	{"both", puller.ContentWhole, puller.ContentWhole},
}

// engine returns an engine that gives the recorded answers.
func (r recorded) engine(t *testing.T) *docker.Engine {
	t.Helper()
	return newHTTPEngine(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Api-Version", "1.56")
		reply := func(status int, body any) {
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(body)
		}
		key := "plain"
		if q.URL.Query().Get("manifests") != "" {
			key = "manifests"
		}
		if text := q.URL.Query().Get("platform"); text != "" {
			if key == "manifests" {
				reply(http.StatusBadRequest, map[string]string{"message": "conflicting options: manifests and platform options cannot both be set"})
				return
			}
			var p struct{ OS, Architecture string }
			json.Unmarshal([]byte(text), &p)
			key = p.OS + "/" + p.Architecture
		}
		switch {
		case strings.HasSuffix(q.URL.Path, "/_ping"):
		case strings.HasSuffix(q.URL.Path, "/version"):
			reply(http.StatusOK, map[string]string{"Version": "main", "ApiVersion": "1.56", "Os": "linux", "Arch": "amd64"})
		case r[key] == nil:
			reply(http.StatusNotFound, map[string]string{"message": "image with reference " + multi + " was found but does not provide the specified platform (" + key + ")"})
		default:
			reply(http.StatusOK, r[key])
		}
	})
}

// scripted returns a scripted engine in the same state.
func (r recorded) scripted(t *testing.T, amd64, arm64 puller.Content) (*docker.Engine, *enginetest.Engine) {
	t.Helper()
	e, scripted := newEngine(t)
	scripted.UseContainerdStore()
	x := r.index()
	scripted.Script(multi, enginetest.ServeIndex(x))
	if err := e.Pull(t.Context(), puller.Pull{Image: multi, Platform: "linux/arm64"}, ignore); err != nil {
		t.Fatal(err)
	}
	scripted.SetContent(x.Images[0].Manifest, amd64)
	scripted.SetContent(x.Images[1].Manifest, arm64)
	return e, scripted
}

func TestInspectContent(t *testing.T) {
	for _, s := range states {
		r := load(t, s.name)
		x := r.index()
		recordedEngine := r.engine(t)
		scriptedEngine, _ := r.scripted(t, s.amd64, s.arm64)
		for name, e := range map[string]*docker.Engine{"recorded": recordedEngine, "scripted": scriptedEngine} {
			for platform, content := range map[string]puller.Content{"": s.amd64, "linux/amd64": s.amd64, "linux/arm64": s.arm64, "linux/arm64/v8": s.arm64} {
				t.Run(strings.Join([]string{s.name, name, platform}, " "), func(t *testing.T) {
					i, err := e.Inspect(t.Context(), multi, platform)
					if err != nil {
						t.Fatal(err)
					}
					want := *x.For(platform)
					want.ID, want.RepoTags, want.RepoDigests = x.Digest, []string{multi}, []string{"registry.test/multi@" + x.Digest}
					want.Content = content
					if content != puller.ContentWhole {
						want.Content, want.DiffIDs = puller.ContentPartial, nil
					}
					if diff := cmp.Diff(want, i, cmpopts.IgnoreFields(i, "Size")); diff != "" || i.Content == puller.ContentWhole && i.Size == 0 {
						t.Errorf("%d bytes (-want +got):\n%s", i.Size, diff)
					}
				})
			}
			t.Run(strings.Join([]string{s.name, name, "no such platform"}, " "), func(t *testing.T) {
				i, err := e.Inspect(t.Context(), multi, "linux/s390x")
				if err != nil || i.Content != puller.ContentPartial || i.Manifest != "" || !strings.HasPrefix(i.Platform, "linux/a") {
					t.Errorf("got %+v, %v", i, err)
				}
			})
		}
	}
}

// In the fields that the package uses, the scripted engine gives the recorded answers.
func TestScriptedContainerdStore(t *testing.T) {
	for _, s := range states {
		r := load(t, s.name)
		_, scripted := r.scripted(t, s.amd64, s.arm64)
		client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return scripted.Dial(ctx) }, DisableKeepAlives: true}}
		for key, want := range r {
			query := map[string]string{
				"plain": "", "manifests": "?manifests=1",
				"linux/amd64": `?platform=%7B%22os%22:%22linux%22,%22architecture%22:%22amd64%22%7D`, "linux/arm64": `?platform=%7B%22os%22:%22linux%22,%22architecture%22:%22arm64%22%7D`,
			}[key]
			resp, err := client.Get("http://engine/v1.51/images/" + multi + "/json" + query)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if diff := cmp.Diff(usedFields(want), usedFields(got)); diff != "" {
				t.Errorf("%s, %s (-recorded +scripted):\n%s", s.name, key, diff)
			}
		}
	}
}

// usedFields returns the fields of an answer that the package uses, without sizes.
func usedFields(answer map[string]any) map[string]any {
	left := make(map[string]any)
	for _, field := range []string{"Id", "RepoTags", "RepoDigests", "Os", "Architecture"} {
		left[field] = answer[field]
	}
	left["Layers"] = answer["RootFS"].(map[string]any)["Layers"]
	if d, ok := answer["Descriptor"].(map[string]any); ok {
		left["Descriptor"] = d["digest"]
	}
	manifests, _ := answer["Manifests"].([]any)
	for _, m := range manifests {
		m := m.(map[string]any)
		left[m["ID"].(string)] = []any{m["Available"], m["Kind"], m["ImageData"].(map[string]any)["Platform"], m["Descriptor"].(map[string]any)["digest"]}
	}
	return left
}

func TestStoragePlatforms(t *testing.T) {
	for _, s := range states {
		r := load(t, s.name)
		e, _ := r.scripted(t, s.amd64, s.arm64)
		stock, err := e.Storage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range stock.Images {
			got = append(got, i.Platform)
			if len(i.DiffIDs) != 3 || i.Content != puller.ContentWhole {
				t.Errorf("%s: an image is %+v", s.name, i)
			}
		}
		slices.Sort(got)
		want := []string{"linux/arm64"}
		if s.amd64 == puller.ContentWhole {
			want = []string{"linux/amd64", "linux/arm64"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: it has %v", s.name, got)
		}
	}
}
