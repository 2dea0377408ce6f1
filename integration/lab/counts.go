package lab

import (
	"maps"
	"net/http"
	"sync"
)

// Counts are the requests that reached a registry, whatever they were answered.
type Counts struct {
	ManifestGets  int
	ManifestHeads int
	BlobGets      int
	// ByPath holds each of the above by method and path: "GET /v2/app/blobs/sha256:…".
	ByPath map[string]int
	// BlobBytes are the bytes that were sent of each blob's content, by digest, also in
	// answers that were cut off.
	BlobBytes map[string]int64
}

// tally keeps Counts.
type tally struct {
	mu     sync.Mutex
	counts Counts
}

func (t *tally) add(r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch kind := endpoint(r.URL.Path); {
	case kind == "manifests" && r.Method == http.MethodGet:
		t.counts.ManifestGets++
	case kind == "manifests" && r.Method == http.MethodHead:
		t.counts.ManifestHeads++
	case kind == "blobs" && r.Method == http.MethodGet:
		t.counts.BlobGets++
	default:
		return
	}
	if t.counts.ByPath == nil {
		t.counts.ByPath = map[string]int{}
	}
	t.counts.ByPath[r.Method+" "+r.URL.Path]++
}

// sent adds to what was sent of a blob.
func (t *tally) sent(digest string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts.BlobBytes == nil {
		t.counts.BlobBytes = map[string]int64{}
	}
	t.counts.BlobBytes[digest] += n
}

// Counts returns the requests since the start or the last ResetCounts. Those of Push
// and Untag are not among them.
func (f *Faults) Counts() Counts {
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	counts := f.tally.counts
	counts.ByPath = maps.Clone(counts.ByPath)
	counts.BlobBytes = maps.Clone(counts.BlobBytes)
	return counts
}

// ResetCounts starts counting anew.
func (f *Faults) ResetCounts() {
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	f.tally.counts = Counts{}
}
