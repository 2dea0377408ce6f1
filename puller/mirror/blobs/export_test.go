package blobs

// ParsedBitmap returns the blob's size and the ranges that a bitmap file says are there
// in a file of a length, and the file that would be written for them.
func ParsedBitmap(file []byte, length int64) (size int64, there []Range, again []byte, err error) {
	m, err := parseBitmap(file)
	if err != nil {
		return 0, nil, nil, err
	}
	there = m.spans(length)
	return m.size, there, m.encode(), nil
}

// EncodedBitmap returns the bitmap file of a blob of which nothing is there.
func EncodedBitmap(size, block int64) []byte { return newBitmap(size, block).encode() }

// Held is how many bytes readers get only from a blob that was checked.
const Held = held

// StoreOf returns the store of a blob.
func StoreOf(b *Blob) *Store { return b.store }
