package peers

import "github.com/towline/towline/puller/mirror/blobs"

// DefaultChunk is how many bytes a chunk has; the last one of a blob has fewer. It is the
// same on all hosts, whatever mirror.chunk is: hosts of one fleet must agree on it.
// Where it changes, wire.PathChunks gets another version.
const DefaultChunk = 1 << 20

// chunks returns how many chunks a blob has.
func chunks(size, chunk int64) int { return int((size + chunk - 1) / chunk) }

// rangeOf returns the bytes of a chunk.
func rangeOf(size, chunk int64, index int) blobs.Range {
	from := int64(index) * chunk
	return blobs.Range{From: from, To: min(from+chunk, size)}
}

// missing returns the first range of a chunk that is not there; ok is false for none.
func missing(b *blobs.Blob, of blobs.Range) (r blobs.Range, ok bool) {
	for _, r := range b.Missing() {
		if r.From, r.To = max(r.From, of.From), min(r.To, of.To); r.From < r.To {
			return r, true
		}
	}
	return blobs.Range{}, false
}
