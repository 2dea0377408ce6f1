package store

import "github.com/towline/towline/puller"

// Records keep what rooms other than jobs remember over a restart, by kind and key. The
// methods may be called from anywhere.
type Records interface {
	// Load returns all values of a kind by their keys.
	Load(kind string) (map[string][]byte, error)
	// Save keeps values of a kind, each in the place of the one with its key: all of them
	// or, after an error, none. They are on disk when it returns nil. The error is
	// ErrInvalidRequest where a kind, a key or a value is too long, and ErrOverloaded where
	// the kind has MaxRecords, or the disk is full.
	Save(kind string, values map[string][]byte) error
	// Delete removes values of a kind. One that is not there is no error.
	Delete(kind string, keys []string) error
}

// Limits of what Records keep.
const (
	MaxRecords      = 100_000 // of a kind
	MaxRecordName   = 255     // bytes of a kind, and of a key
	MaxRecordValue  = 2 << 20 // bytes
	MaxRecordsBytes = 64 << 20
)

// CheckRecords returns why Records refuse a kind or values, nil if they take them. A kind has
// letters, digits and hyphens.
func CheckRecords(kind string, values map[string][]byte) error {
	if len(kind) == 0 || len(kind) > MaxRecordName {
		return puller.Errorf(puller.ErrInvalidRequest, "a kind of records has 1 to %d bytes, not %d", MaxRecordName, len(kind))
	}
	for i := range len(kind) {
		if c := kind[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return puller.Errorf(puller.ErrInvalidRequest, "the kind %q of records has other bytes than a-z, 0-9 and -", kind)
		}
	}
	for key, value := range values {
		switch {
		case len(key) == 0 || len(key) > MaxRecordName:
			return puller.Errorf(puller.ErrInvalidRequest, "%s: a key has 1 to %d bytes, not %d", kind, MaxRecordName, len(key))
		case len(value) > MaxRecordValue:
			return puller.Errorf(puller.ErrInvalidRequest, "%s %s: the record has %d bytes; it has at most %d", kind, puller.Clip(key), len(value), MaxRecordValue)
		}
	}
	return nil
}
