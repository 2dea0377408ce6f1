// Package index finds sets and leases by what they keep.
package index

// Index has the IDs of things by the keys that they have: names, digests and IDs of images.
// It is not safe for concurrent use.
type Index map[string]map[string]bool

// Add notes that a thing has keys.
func (i Index) Add(id string, keys []string) {
	for _, key := range keys {
		if i[key] == nil {
			i[key] = make(map[string]bool)
		}
		i[key][id] = true
	}
}

// Remove forgets a thing that has keys.
func (i Index) Remove(id string, keys []string) {
	for _, key := range keys {
		if delete(i[key], id); len(i[key]) == 0 {
			delete(i, key)
		}
	}
}
