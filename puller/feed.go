package puller

import (
	"sync"

	"github.com/towline/towline/stream/pullstream"
)

// feed passes the layers of a transfer on to the prewarms whose children it
// serves. Its methods may be called from anywhere.
type feed struct {
	mu      sync.Mutex
	layers  []pullstream.Layer // of the present attempt, the latest of each
	batches []*batch
}

// join has a prewarm told of the layers, those of before too.
func (f *feed) join(b *batch, key transferKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, known := range f.batches {
		if known == b {
			return
		}
	}
	f.batches = append(f.batches, b)
	for _, l := range f.layers {
		b.put(key, l)
	}
}

// begin forgets the layers of the attempt before.
func (f *feed) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.layers = nil
}

func (f *feed) put(key transferKey, l pullstream.Layer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.batches {
		b.put(key, l)
	}
	for i := range f.layers {
		if f.layers[i].ID == l.ID {
			f.layers[i] = l
			return
		}
	}
	f.layers = append(f.layers, l)
}
