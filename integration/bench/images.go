package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/towline/towline/integration/lab"
)

const (
	engineImages = 2000
	imagePages   = 100 // in a round
)

// imageEngine says that it has images, and a container of each tenth one, without work of its own.
type imageEngine struct {
	images, containers []byte
	lists              atomic.Int64 // how often it was asked for its images or containers
}

func newImageEngine(images int) (*imageEngine, error) {
	summaries, containers := []map[string]any{}, []map[string]any{}
	for n := range images {
		id, name := fmt.Sprintf("sha256:%064x", n), fmt.Sprintf("registry.test/team/app-%d", n)
		summaries = append(summaries, map[string]any{
			"Id": id, "ParentId": "", "RepoTags": []string{name + ":v1"}, "RepoDigests": []string{fmt.Sprintf("%s@sha256:1%063x", name, n)},
			"Created": 1_700_000_000, "Size": 200 << 20, "SharedSize": 80 << 20, "Labels": map[string]string{"maintainer": "the team of the app"}, "Containers": -1,
		})
		if n%10 == 0 {
			containers = append(containers, map[string]any{
				"Id": fmt.Sprintf("%064x", n), "Names": []string{fmt.Sprintf("/app-%d", n)}, "Image": name + ":v1", "ImageID": id, "Command": "/app", "Created": 1_700_000_000, "State": "running", "Status": "Up 2 days",
			})
		}
	}
	var e imageEngine
	var err, failed error
	e.images, err = json.Marshal(summaries)
	e.containers, failed = json.Marshal(containers)
	return &e, errors.Join(err, failed)
}

// ServeHTTP answers as an engine.
func (e *imageEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.47")
	w.Header().Set("Content-Type", "application/json")
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/_ping"):
		w.Write([]byte("OK"))
	case strings.HasSuffix(path, "/images/json"):
		e.lists.Add(1)
		w.Write(e.images)
	case strings.HasSuffix(path, "/containers/json"):
		e.lists.Add(1)
		w.Write(e.containers)
	case strings.HasSuffix(path, "/events"):
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	default: // version, info
		w.Write([]byte(`{"Version":"27.0.0","ApiVersion":"1.47","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64","Driver":"overlay2","Name":"bench"}`))
	}
}

// images measures GET /v1/images of an engine with many images, and the memory of a daemon with
// them against one without.
func (s *site) images(ctx context.Context, runs int) error {
	for _, n := range []int{0, engineImages} {
		if err := s.imagesOf(ctx, n, runs); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) imagesOf(ctx context.Context, images, runs int) (err error) {
	e, err := newImageEngine(images)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, fmt.Sprint("images-", images))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	socket := filepath.Join(dir, "engine.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: e}
	go server.Serve(l)
	defer server.Close()
	d, err := lab.StartTowline(ctx, s.bin, dir, lab.TowlineOptions{EngineHost: "unix://" + socket})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	// It looks at once at what is there.
	if err := lab.Poll(ctx, 100*time.Millisecond, func(context.Context) error {
		if e.lists.Load() < 2 {
			return errors.New("it has not listed them")
		}
		return nil
	}); err != nil {
		return err
	}
	c, err := dial(socketOf(d.Host))
	if err != nil {
		return err
	}
	defer c.conn.Close()
	for _, page := range []struct {
		name, target string
	}{{"a page of 1,000", "/v1/images?limit=1000&cursor=sha256:" + strings.Repeat("0", 64)}, {"the first page of 100", "/v1/images?limit=100"}} {
		if images == 0 {
			break
		}
		var half, most, lists spread
		for round := range runs + 1 {
			var took spread
			before := e.lists.Load()
			for range imagePages {
				t, err := seconds(func() error { _, err := c.list(page.target); return err })
				if err != nil {
					return err
				}
				took.add(1000 * t)
			}
			if round > 0 {
				half.add(took.part(50))
				most.add(took.part(99))
				lists.add(float64(e.lists.Load()-before) / imagePages)
			}
		}
		fmt.Printf("GET /v1/images, %s of %d images, %d runs of %d: p50 %v ms, p99 %v ms, lists of the engine for each %v\n", page.name, images, runs, imagePages, half, most, lists)
	}
	told, err := metrics(ctx, d, "process_resident_memory_bytes", "go_memstats_heap_inuse_bytes")
	if err != nil {
		return err
	}
	fmt.Printf("memory with %d images: %.0f MiB, %.0f of them heap in use\n", images, told[0]/(1<<20), told[1]/(1<<20))
	return nil
}
