package collect

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller/engines"
)

type metrics struct {
	removed  *prometheus.CounterVec // by why
	freed    prometheus.Counter     // bytes
	failures prometheus.Counter
}

func newMetrics(o Options) metrics {
	m := metrics{
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_images_removed_total", Help: "Images that were collected, by what for: high (the disk was full to keep.high), unused (keep.max_unused) or admission (room for a pull).",
		}, []string{"why"}),
		freed:    prometheus.NewCounter(prometheus.CounterOpts{Name: "towline_images_removed_bytes_total", Help: "Bytes that were freed by collecting images, as far as known."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "towline_images_removal_failures_total", Help: "Removals of images that the engine refused."}),
	}
	for _, why := range []string{whyHigh, whyUnused, whyAdmission} { // there from the start
		m.removed.WithLabelValues(why)
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(m.removed, m.freed, m.failures, diskMetrics{o.Engine})
	}
	return m
}

// diskMetrics has the engine's disk, which it looks at when it is asked.
type diskMetrics struct{ engine engines.Engine }

var (
	diskTotal = prometheus.NewDesc("towline_engine_disk_bytes", "Size of the file system that the engine keeps its images on. Absent where it is not known.", nil, nil)
	diskFree  = prometheus.NewDesc("towline_engine_disk_free_bytes", "Free bytes of that file system.", nil, nil)
)

// Describe implements prometheus.Collector.
func (diskMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- diskTotal
	to <- diskFree
}

// Collect implements prometheus.Collector.
func (d diskMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	disk, err := d.engine.Disk(ctx)
	if err != nil || disk == nil {
		return
	}
	to <- prometheus.MustNewConstMetric(diskTotal, prometheus.GaugeValue, float64(disk.Total))
	to <- prometheus.MustNewConstMetric(diskFree, prometheus.GaugeValue, float64(disk.Free))
}
