package docker_test

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
)

func TestStorageImages(t *testing.T) {
	e, scripted := newEngine(t)
	var want []string
	for i := range 30 {
		name := fmt.Sprintf("registry.test/image%02d:v1", i)
		image := enginetest.NewImage(name, i)
		scripted.Tag(name, image)
		want = append(want, image.ID)
	}
	scripted.Tag("registry.test/again:v1", enginetest.NewImage("registry.test/image00:v1", 0))
	// How many inspects there are at a time, and one image that goes meanwhile,
	// and another that the engine can't make out.
	var mu sync.Mutex
	running, most, asked := 0, 0, 0
	eight := make(chan struct{})
	scripted.OnInspect(func(string, <-chan struct{}) (int, string) {
		mu.Lock()
		running++
		asked++
		n := asked
		if most = max(most, running); n == 8 {
			close(eight)
		}
		mu.Unlock()
		select { // a busy machine may be slow to send them
		case <-eight:
		case <-time.After(10 * time.Second):
		}
		<-time.After(5 * time.Millisecond) // for a ninth
		mu.Lock()
		running--
		mu.Unlock()
		switch n {
		case 3:
			return http.StatusNotFound, "No such image: gone"
		case 7:
			return http.StatusInternalServerError, "the layer store is in disorder"
		}
		return 0, ""
	})
	stock, err := e.Storage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range stock.Images {
		if len(i.DiffIDs) != 2 || slices.Contains(got, i.ID) || !slices.Contains(want, i.ID) {
			t.Errorf("an image is %+v", i)
		}
		got = append(got, i.ID)
	}
	if len(got) != len(want)-2 || asked != len(want) {
		t.Errorf("there are %d images of %d, after %d inspects", len(got), len(want), asked)
	}
	if most != 8 {
		t.Errorf("%d inspects ran at a time", most)
	}
}

func TestStorageEngineKilled(t *testing.T) {
	e, scripted := newEngine(t)
	for i := range 20 {
		name := fmt.Sprintf("registry.test/image%02d:v1", i)
		scripted.Tag(name, enginetest.NewImage(name, i))
	}
	scripted.OnInspect(func(string, <-chan struct{}) (int, string) {
		scripted.Kill()
		return 0, ""
	})
	if _, err := e.Storage(t.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable && puller.KindOf(err) != puller.ErrTruncated {
		t.Errorf("the error is %v", err)
	}
	if _, err := e.Storage(t.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable {
		t.Errorf("the error is %v", err)
	}
}

func TestStorageFree(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, engine, machine, dir string
		known                      bool
	}{
		{"the engine is here", "unix:///scripted", host, t.TempDir(), true},
		{"it does not say what its machine is called, but its directory is here", "unix:///scripted", "", t.TempDir(), true},
		{"its socket is forwarded from elsewhere", "unix:///scripted", host + "-not", t.TempDir(), false},
		{"it is called over the network", "tcp://scripted:2375", host, t.TempDir(), false},
		{"its directory is not here", "unix:///scripted", host, "/nonexistent/docker", false},
		{"it does not tell its directory", "unix:///scripted", host, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripted := enginetest.New(t)
			scripted.SetRoot(c.machine, c.dir)
			e, err := docker.New(docker.Options{Host: c.engine, Dial: scripted.Dial})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			stock, err := e.Storage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if known := c.known && runtime.GOOS == "linux"; (stock.Free != nil) != known || known && *stock.Free <= 0 {
				t.Errorf("free is %v", stock.Free)
			}
		})
	}
}
