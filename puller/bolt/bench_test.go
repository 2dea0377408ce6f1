package bolt_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// flushes measures how often a second the disk under a directory flushes a
// page that is written, which bounds what any store can do: a Save takes two.
func flushes(b *testing.B, dir string) float64 {
	f, err := os.Create(filepath.Join(dir, "flushes"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	n, start := 0, time.Now()
	for ; time.Since(start) < 300*time.Millisecond; n++ {
		if _, err := f.WriteAt(page, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(start).Seconds()
}

const batch = 64

// BenchmarkSave keeps 64 records a time that were not there.
func BenchmarkSave(b *testing.B) {
	benchmarkSave(b, func(n int) []store.Record {
		records := make([]store.Record, batch)
		for i := range records {
			records[i] = storetest.NewRecord(n*batch + i)
		}
		return records
	})
}

// BenchmarkSaveToTheEnd keeps 32 records a time that were not there, and the
// end of the 32 before them.
func BenchmarkSaveToTheEnd(b *testing.B) {
	benchmarkSave(b, func(n int) []store.Record {
		records := make([]store.Record, batch)
		for i := range batch / 2 {
			records[i] = storetest.NewRecord((n+1)*batch + i)
			records[batch/2+i] = ended(n*batch + i)
		}
		return records
	})
}

func benchmarkSave(b *testing.B, records func(n int) []store.Record) {
	dir := b.TempDir()
	rate := flushes(b, dir)
	s, err := bolt.Open(b.Context(), dir, bolt.Options{Log: discard(), Checker: checker})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n := 0
	for b.Loop() {
		b.StopTimer()
		r := records(n)
		b.StartTimer()
		if err := s.Save(uint64(n), r); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "saves/s")
	b.ReportMetric(float64(n*batch)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(rate, "flushes/s")
}

// BenchmarkOpen opens a store with 100,000 jobs that have ended and 1,000 that
// have not, and loads those.
func BenchmarkOpen(b *testing.B) {
	const done, open = 100_000, 1000
	dir := b.TempDir()
	s, err := bolt.Open(b.Context(), dir, bolt.Options{Log: discard(), Checker: checker})
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; n < done; n += 1000 {
		var records []store.Record
		for i := range 1000 {
			records = append(records, ended(n+i))
		}
		save(b, s, uint64(n), records...)
	}
	var records []store.Record
	for n := range open {
		records = append(records, storetest.NewRecord(done+n))
	}
	save(b, s, done, records...)
	closeIt(b, s)
	info, err := os.Stat(filepath.Join(dir, "jobs.db"))
	if err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		s, err := bolt.Open(b.Context(), dir, bolt.Options{Log: discard(), Checker: checker})
		if err != nil {
			b.Fatal(err)
		}
		if _, unended, err := s.Load(); len(unended) != open || err != nil {
			b.Fatal(len(unended), err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if _, err := s.Ended(puller.Filter{State: puller.StateSucceeded, Limit: 100}); err != nil {
			b.Fatal(err)
		}
		closeIt(b, s)
		b.StartTimer()
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "file-MiB")
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "heap-MiB")
}
