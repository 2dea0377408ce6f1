package integration_test

import (
	"path/filepath"
	"testing"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/pullertest"
	"github.com/towline/towline/stream"
)

// actorImage has the engine pull the actor's image and returns its ID.
func actorImage(t *testing.T, engine *docker.Engine) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "actor")
	if err := lab.BuildStatic(t.Context(), "lab/testdata/actor", program); err != nil {
		t.Fatal(err)
	}
	image, err := lab.BinaryImage(program, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.registry.Push(t.Context(), "actor", "v1", image); err != nil {
		t.Fatal(err)
	}
	ref := site.registry.Ref("actor", "v1")
	if err := engine.Pull(t.Context(), puller.Pull{Image: ref}, func(stream.Message) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, ref) })
	found, err := engine.Inspect(t.Context(), ref, "")
	if err != nil {
		t.Fatal(err)
	}
	return found.ID
}

func TestRealContainersConform(t *testing.T) {
	lab.Need(t, site.err)
	engine, err := docker.New(docker.Options{Host: site.engine.Host})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	pullertest.TestContainers(t, pullertest.ContainerFixture{Engine: engine, Image: actorImage(t, engine), OOM: true})
}
