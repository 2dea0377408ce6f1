package database

import (
	"os"

	"go.etcd.io/bbolt"
)

const (
	// compactFrom is the least size in bytes of a file that is worth to be copied to
	// a smaller one.
	compactFrom = 8 << 20
	// compactStep is how many bytes are copied at a time.
	compactStep = 4 << 20
)

// Compact copies a file that is mostly free to a new one, and returns that. The old file
// keeps its name until the new one is complete and flushed. Then it is only open. Compact
// returns nil where it leaves the file as it is, and else a file, even with an error.
func (d *File) Compact(under string) (*File, error) {
	var size int64
	if err := d.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return nil, err
	}
	stats := d.db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(d.pageSize)
	if size < compactFrom || free <= size/2 {
		return nil, nil
	}
	if err := d.named(); err != nil {
		return nil, err
	}
	defer os.Remove(under)
	return copyTo(under, d.path, d)
}

// copyTo copies what a database holds to a new file, and publishes it.
func copyTo(under, path string, old *File) (*File, error) {
	o := options()
	// One flush at the end is enough, and the file shall be as short as possible.
	o.NoSync, o.NoGrowSync = true, true
	fresh, err := bbolt.Open(under, 0o600, o)
	if err != nil {
		return nil, err
	}
	err = guard(func() error { return bbolt.Compact(fresh, old.db, compactStep) })
	if IsDamage(err) {
		return nil, old.found(err) // fresh stays open: a panic may have left it locked
	}
	if err == nil {
		err = fresh.Sync()
	}
	fresh.NoSync, fresh.NoGrowSync = false, false
	var d *File
	if err == nil {
		d, err = publish(fresh, under, path)
	}
	if d == nil {
		fresh.Close()
	}
	return d, err
}
