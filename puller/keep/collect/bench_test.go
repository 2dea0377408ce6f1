package collect_test

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

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
	cpu := func() time.Duration {
		var r syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &r)
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	used := cpu()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if page, _, err := c.Images(b.Context(), keep.ImageFilter{Limit: 1000}); err != nil || len(page) != 1000 {
			b.Fatal(len(page), err)
		}
		took = append(took, time.Since(began))
	}
	b.ReportMetric((cpu()-used).Seconds()*1000/float64(len(took)), "cpu-ms/op")
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms-p50")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "ms-p99")
	b.ReportMetric(kept, "B/image-kept")
}
