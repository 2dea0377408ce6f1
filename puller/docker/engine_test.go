package docker_test

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newEngine returns an Engine that drives a scripted one.
func newEngine(t *testing.T) (*docker.Engine, *enginetest.Engine) {
	t.Helper()
	scripted := enginetest.New(t)
	e, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, scripted
}

// newHTTPEngine returns an Engine whose calls this handler answers, with API 1.41.
func newHTTPEngine(t *testing.T, handler http.HandlerFunc) *docker.Engine {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	e, err := docker.New(docker.Options{Host: "unix:///handler", Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func credentials(t *testing.T, user, password string) puller.Credentials {
	t.Helper()
	json := `{"username":"` + user + `","password":"` + password + `"}`
	c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(json)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestScriptedEngine(t *testing.T) {
	t.Run("graph driver", func(t *testing.T) { conforms(t, (*enginetest.Engine).Revive) })
	t.Run("containerd store", func(t *testing.T) { conforms(t, (*enginetest.Engine).UseContainerdStore) })
}

func conforms(t *testing.T, be func(*enginetest.Engine)) {
	e, scripted := newEngine(t)
	be(scripted)
	f := enginetest.Fixture{
		Engine:           e,
		Good:             "registry.test/good:v1",
		DiffIDs:          enginetest.NewImage("registry.test/good:v1", 1).DiffIDs,
		Digest:           "registry.test/digest@sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf",
		NoTag:            "registry.test/good:nope",
		NoRepo:           "registry.test/nope:v1",
		Private:          "registry.test/private:v1",
		Credentials:      credentials(t, "ada", "right"),
		WrongCredentials: credentials(t, "ada", "wrong"),
		Down:             "down.test/lab2:v1",
		Corrupt:          "registry.test/corrupt:v1",
		Limited:          "registry.test/limited:v1",
		Slow:             "registry.test/slow:v1",
		Remove:           func(_ *testing.T, image string) { scripted.Remove(image) },
		Pulling:          func() bool { return scripted.Counts().Active > 0 },
	}
	play := func(image, recording string) {
		scripted.Script(image, enginetest.Replay(transcripts.Load(recording), nil))
	}
	scripted.Script(f.Good, enginetest.Serve(enginetest.NewImage(f.Good, 1)))
	scripted.Script(f.Digest, enginetest.Serve(enginetest.NewImage(f.Digest, 2)))
	play(f.NoTag, "engine-20.10/tag-not-found")
	play(f.NoRepo, "engine-20.10/repo-not-found")
	play(f.Down, "engine-20.10/registry-down")
	play(f.Corrupt, "engine-20.10/corrupt-layer")
	play(f.Limited, "engine-20.10/rate-limited")
	scripted.Script(f.Private, func(p *enginetest.Pull) {
		switch scripted.LastAuth() {
		case f.Credentials.HeaderFor(f.Private):
			enginetest.Serve(enginetest.NewImage(f.Private, 3))(p)
		case "":
			enginetest.Replay(transcripts.Load("engine-20.10/unauthorized"), nil)(p)
		default:
			enginetest.Replay(transcripts.Load("engine-20.10/bad-password"), nil)(p)
		}
	})
	scripted.Script(f.Slow, func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":100},"id":"aaaaaaaaaaaa"}`)
		<-p.Gone()
	})
	enginetest.TestEngine(t, f)
}
