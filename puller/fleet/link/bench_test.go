package link_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/fleet/link"
)

// BenchmarkJoin has hosts join an embedded server, each over TLS, and join again after it was
// started again. It tells how long the last of them took, and the memory of all in this
// process.
func BenchmarkJoin(b *testing.B) {
	const hosts = 1000
	defer link.Hurry(fleet.BeatEvery)()
	for b.Loop() {
		e := newEmbedded(b)
		main := e.local()
		main.is(fleet.LinkUp, "")
		all := make([]creds.Creds, hosts)
		began := time.Now()
		for i := range all {
			all[i] = e.invite(fmt.Sprint("host-", i))
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-to-invite")
		began = time.Now()
		joined := make([]*host, hosts)
		for i, c := range all {
			joined[i] = invited(b, c, c.Host)
		}
		for _, h := range joined {
			h.is(fleet.LinkUp, "")
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-to-join")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse+m.StackInuse)/(1<<20), "MiB")
		e.stop()
		for _, h := range joined {
			h.is(fleet.LinkAway, "")
		}
		main.stop()
		began = time.Now()
		e.start()
		e.local().is(fleet.LinkUp, "")
		for _, h := range joined {
			h.is(fleet.LinkUp, "")
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-to-join-again")
		var ends sync.WaitGroup
		for _, h := range joined {
			ends.Go(h.stop)
		}
		ends.Wait()
	}
}
