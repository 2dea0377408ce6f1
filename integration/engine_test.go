package integration_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
)

func TestRealEngineConforms(t *testing.T) {
	lab.Need(t, site.err)
	private, err := lab.StartRegistry(lab.RegistryOptions{Username: "ada", Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	own, err := lab.StartRegistry(lab.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	put := func(r *lab.Registry, repo string, layerBytes int64) (ref, digest string) {
		image, err := lab.RandomImage(seeds.Add(1), 2, layerBytes, "linux/amd64")
		if err != nil {
			t.Fatal(err)
		}
		if digest, err = r.Push(t.Context(), repo, "v1", image); err != nil {
			t.Fatal(err)
		}
		return r.Ref(repo, "v1"), digest
	}
	blobs := func(ref string) []string {
		digests, err := own.Layers(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return digests
	}
	good, _ := put(own, "good", 1<<20)
	diffIDs, err := own.DiffIDs(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	_, digest := put(own, "digest", 1<<20)
	secret, _ := put(private, "private", 1<<20)
	corrupt, _ := put(own, "corrupt", 1<<20)
	own.CorruptBlob(blobs(corrupt)[1])
	limited, _ := put(own, "limited", 1<<10)
	slow, _ := put(own, "slow", 4<<20)
	trickled := blobs(slow)[0]

	// One of the slow image's blobs trickles, until its reader goes
	// away. It does not stand still: dockerd 20.10 would keep a connection that
	// nothing comes from, after its pull was aborted.
	var holding atomic.Int32
	own.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/limited/manifests/"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}`)
			return true
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, trickled):
			holding.Add(1)
			defer holding.Add(-1)
			trickle(w, r, 1<<30)
			return true
		}
		return false
	})

	engine, err := docker.New(docker.Options{Host: site.engine.Host})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	enginetest.TestEngine(t, enginetest.Fixture{
		Engine:           engine,
		Good:             good,
		DiffIDs:          diffIDs,
		Digest:           own.Addr() + "/digest@" + digest,
		NoTag:            own.Ref("good", "nope"),
		NoRepo:           own.Ref("nope", "v1"),
		Private:          secret,
		Credentials:      credentials(t, "ada", "right"),
		WrongCredentials: credentials(t, "ada", "wrong"),
		Down:             "127.0.0.1:1/down:v1",
		Corrupt:          corrupt,
		Limited:          limited,
		Slow:             slow,
		Remove:           remove,
		Pulling:          func() bool { return holding.Load() > 0 },
	})
}

// trickle writes zeros, 320 kB a second, until the client goes away.
func trickle(w http.ResponseWriter, r *http.Request, size int) {
	w.Header().Set("Content-Length", fmt.Sprint(size))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := w.Write(make([]byte, 16<<10)); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func credentials(t *testing.T, user, password string) puller.Credentials {
	t.Helper()
	header := base64.URLEncoding.EncodeToString(fmt.Appendf(nil, `{"username":%q,"password":%q}`, user, password))
	c, err := puller.ParseCredentials(header)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
