package prewarm

import (
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// progress adds up what the transfers of a prewarm's children do. Its methods may be
// called from anywhere.
type progress struct {
	layers *stream.Latest

	mu      sync.Mutex
	sum     pullstream.CombinedProgress
	unknown map[transfer.Key]int // how many children want what no layer is known of
	numbers map[layerOf]uint64   // of what was told last of each layer
}

// layerOf is a layer of a transfer.
type layerOf struct {
	key transfer.Key
	id  string
}

func newProgress(numbers *stream.Sequence) *progress {
	return &progress{layers: stream.NewLatest(numbers), unknown: make(map[transfer.Key]int), numbers: make(map[layerOf]uint64)}
}

// expectLayers says that a child is going to report the layers of a transfer.
func (p *progress) expectLayers(k transfer.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unknown[k]++
}

// ended says that a child has ended.
func (p *progress) ended(k transfer.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unknown[k]--; p.unknown[k] <= 0 {
		delete(p.unknown, k)
	}
}

// Layer takes in a layer of a transfer that children are part of.
func (w *Prewarm) Layer(k transfer.Key, number uint64, l pullstream.Layer) {
	p := w.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	one := layerOf{k, l.ID}
	if number <= p.numbers[one] {
		return // it has come after a later one
	}
	p.numbers[one] = number
	delete(p.unknown, k)
	now := time.Now() // here, so that it does not run backwards
	l = p.sum.Put(l, now)
	totals := p.sum.Totals(now, len(p.unknown) > 0)
	p.layers.Set(l.ID, puller.LayerFrame(l, &totals))
}

// expect takes in what a manifest says of an image's layers.
func (p *progress) expect(k transfer.Key, layers []puller.Blob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.unknown, k)
	for _, l := range layers {
		p.sum.Expect(layerID(l.Digest), l.Size)
	}
}

// layerID returns the ID that engines give a layer: the first twelve digits of
// its blob's digest.
func layerID(digest string) string {
	_, digits, _ := strings.Cut(digest, ":")
	return digits[:min(len(digits), 12)]
}

func (p *progress) totals() pullstream.Totals {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum.Totals(time.Now(), len(p.unknown) > 0)
}
