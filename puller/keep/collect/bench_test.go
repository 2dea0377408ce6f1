package collect_test

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/storetest"
)

// BenchmarkImages lists the first page of 2,000 images, with what they share, and 200
// containers. The scripted engine's own time is in it.
func BenchmarkImages(b *testing.B) {
	scripted := enginetest.New(b)
	scripted.SetAPI(42, 24)
	e, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	const images = 2000
	for n := range images {
		name := fmt.Sprintf("registry.test/team/image%d:v1", n)
		scripted.Tag(name, newImage(name, n))
		if n%10 == 0 {
			scripted.AddContainer(enginetest.ContainerRequest{Image: newImage(name, n).ID}, false)
		}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	table := usage.New(usage.Options{Engine: e, Records: storetest.New().Records(), Log: log})
	if _, err := table.Snapshot(b.Context(), false); err != nil {
		b.Fatal(err)
	}
	kept := float64(int64(heap())-int64(before)) / images
	c := collect.New(collect.Options{Engine: e, Usage: table, Collect: collect.All, Log: log})
	for b.Loop() {
		if page, _, err := c.Images(b.Context(), keep.ImageFilter{Limit: 1000}); err != nil || len(page) != 1000 {
			b.Fatal(len(page), err)
		}
	}
	b.ReportMetric(kept, "B/image-kept")
}
