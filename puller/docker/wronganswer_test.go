package docker_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
)

// newAnsweringEngine returns an engine that answers calls, by method and path, with these
// bodies. The body "huge" is 200 MiB long.
func newAnsweringEngine(t *testing.T, answers map[string]string) *docker.Engine {
	t.Helper()
	return newHTTPEngine(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch answer, ok := answers[r.Method+" /"+path]; {
		case answer == "huge":
			io.WriteString(w, `{"Id": "`)
			for range 200 {
				if _, err := w.Write(bytes.Repeat([]byte("a"), 1<<20)); err != nil {
					return
				}
			}
		case ok:
			io.WriteString(w, answer)
		default:
			io.WriteString(w, "{}")
		}
	})
}

const (
	anID      = "1111111111111111111111111111111111111111111111111111111111111111"
	anotherID = "2222222222222222222222222222222222222222222222222222222222222222"
	anImage   = "sha256:c000000000000000000000000000000000000000000000000000000000000001"
)

func TestCreateWrongAnswer(t *testing.T) {
	asked := engines.Container{Image: anImage, Name: "towline-x", Labels: map[string]string{"a": "b"}}
	for name, answer := range map[string]string{
		"nothing": "", "no ID": `{}`, "an empty ID": `{"Id": ""}`, "null": `{"Id": null}`, "a number": `{"Id": 5}`, "a list": `[]`,
		"a path": `{"Id": "../images/x"}`, "a query": `{"Id": "` + anID + `?force=1"}`, "a name": `{"Id": "towline-x"}`,
		"short": `{"Id": "1"}`, "long": `{"Id": "` + anID + `1"}`, "control characters": `{"Id": "1111111111111\u001b"}`, "huge": "huge",
	} {
		t.Run(name, func(t *testing.T) {
			e := newAnsweringEngine(t, map[string]string{"POST /containers/create": answer})
			id, _, err := e.Create(t.Context(), asked)
			if id != "" || err == nil || len(err.Error()) > 1000 {
				t.Errorf("got %q, %.2000v", id, err)
			}
		})
	}
}

func TestCheckContainerWrongAnswer(t *testing.T) {
	asked := engines.Container{Image: anImage, Name: "towline-x", Labels: map[string]string{"a": "b"}}
	is := func(id, name, image, labels string) string {
		return fmt.Sprintf(`{"Id": %q, "Name": %q, "Image": %q, "Config": {"Labels": %s}, "State": {"Status": "created"}}`, id, name, image, labels)
	}
	for name, c := range map[string]struct {
		answer string
		good   bool
	}{
		"correct":              {is(anID, "/towline-x", anImage, `{"a": "b", "c": "d"}`), true},
		"no slash":             {is(anID, "towline-x", anImage, `{"a": "b"}`), true},
		"nothing":              {"", false},
		"no fields":            {`{}`, false},
		"another ID":           {is(anotherID, "/towline-x", anImage, `{"a": "b"}`), false},
		"no ID":                {is("", "/towline-x", anImage, `{"a": "b"}`), false},
		"another name":         {is(anID, "/theirs", anImage, `{"a": "b"}`), false},
		"no name":              {is(anID, "", anImage, `{"a": "b"}`), false},
		"another image":        {is(anID, "/towline-x", "sha256:"+anotherID, `{"a": "b"}`), false},
		"no image":             {is(anID, "/towline-x", "", `{"a": "b"}`), false},
		"labels of the image":  {is(anID, "/towline-x", anImage, `{"a": "theirs"}`), false},
		"no labels":            {is(anID, "/towline-x", anImage, `null`), false},
		"no configuration":     {`{"Id": "` + anID + `", "Name": "/towline-x", "Image": "` + anImage + `"}`, false},
		"a list":               {`[]`, false},
		"more than can be one": {"huge", false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newAnsweringEngine(t, map[string]string{"GET /containers/" + anID + "/json": c.answer})
			if err := e.CheckContainer(t.Context(), anID, asked); (err == nil) != c.good || err != nil && len(err.Error()) > 1000 {
				t.Errorf("error: %.2000v", err)
			}
		})
	}
}

func TestCheckContainerWrongManifest(t *testing.T) {
	const manifest, another = "sha256:" + anID, "sha256:" + anotherID
	asked := engines.Container{Image: anImage, Platform: "linux/arm64", Manifest: manifest}
	is := func(descriptor string) string {
		return fmt.Sprintf(`{"Id": %q, "Name": "/towline-x", "Image": %q%s}`, anID, anImage, descriptor)
	}
	for name, c := range map[string]struct {
		answer string
		good   bool
	}{
		"correct":          {is(`, "ImageManifestDescriptor": {"digest": "` + manifest + `"}`), true},
		"another manifest": {is(`, "ImageManifestDescriptor": {"digest": "` + another + `"}`), false},
		"no manifest":      {is(``), false},
		"null":             {is(`, "ImageManifestDescriptor": null`), false},
		"no digest":        {is(`, "ImageManifestDescriptor": {}`), false},
		"an empty digest":  {is(`, "ImageManifestDescriptor": {"digest": ""}`), false},
		"no algorithm":     {is(`, "ImageManifestDescriptor": {"digest": "` + anID + `"}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newAnsweringEngine(t, map[string]string{"GET /containers/" + anID + "/json": c.answer})
			if err := e.CheckContainer(t.Context(), anID, asked); (err == nil) != c.good {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestContainersWrongAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   string
	}{
		"nothing":    {"", "error"},
		"null":       {"null", ""},
		"an object":  {`{}`, "error"},
		"no ID":      {`[{"Names": ["/towline-x"], "State": "running"}]`, "error"},
		"a path":     {`[{"Id": "..", "Names": ["/towline-x"]}]`, "error"},
		"no names":   {`[{"Id": "` + anID + `"}]`, "[]"},
		"null names": {`[{"Id": "` + anID + `", "Names": null, "Labels": null}]`, "[]"},
		"many names": {`[{"Id": "` + anID + `", "Names": ["/a", "b", "/c/d", ""]}]`, "[a b c/d ]"},
		"huge":       {"huge", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newAnsweringEngine(t, map[string]string{"GET /containers/json": c.answer})
			found, err := e.Containers(t.Context(), "a", "b")
			got := ""
			for _, f := range found {
				got += fmt.Sprint(f.Names)
			}
			if err != nil {
				got = "error"
			}
			if got != c.want || err != nil && len(err.Error()) > 1000 {
				t.Errorf("got %.200q, want %q: %.2000v", got, c.want, err)
			}
		})
	}
}

func TestHugeAnswerMemory(t *testing.T) {
	e := newAnsweringEngine(t, map[string]string{"GET /containers/" + anID + "/json": "huge"})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := e.CheckContainer(t.Context(), anID, engines.Container{})
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "more than 16777216 bytes") {
		t.Errorf("error: %.300v", err)
	}
	// The server's writes count too, and the decoder's smaller buffers.
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 300<<20 {
		t.Errorf("allocated %d MiB", taken>>20)
	}
}
