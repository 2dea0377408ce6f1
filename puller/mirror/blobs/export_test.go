package blobs

// Held is how many bytes readers get only from a blob that was checked.
const Held = held

// StoreOf returns the store of a blob.
func StoreOf(b *Blob) *Store { return b.store }
