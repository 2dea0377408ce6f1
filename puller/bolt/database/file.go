// Package database is a file of bbolt's that may be damaged while it is in use. Damage is
// an error: it ends neither the process nor a goroutine.
package database

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// mapSize is how many bytes of address space the file gets at first. A file
	// that outgrows its map is mapped again, and a Save then waits for readers.
	mapSize = 256 << 20
	// growth is how many bytes the file grows by. Each growth costs a flush.
	growth = 4 << 20
	// ahead is how many bytes of zeros are written at a time behind the used part
	// of the file, as soon as less than half of that is left. A flush of bytes that
	// were written before does not change the filesystem's metadata, which would
	// cost as much again.
	ahead = 2 << 20
	// lockWait is how long the store waits for the lock of another process on the
	// file. The lock on the directory already keeps other daemons away.
	lockWait = 100 * time.Millisecond
)

var errStuck = Damagef("an earlier access failed, and may have left locks behind")

// File is an open file.
type File struct {
	db       *bbolt.DB
	path     string
	file     *os.File // the same file, read without mapping it
	pageSize int
	half     bool         // see Half
	length   atomic.Int64 // bytes at the last change. An open file never becomes shorter

	damage error       // found by a change. No change follows. One goroutine changes at a time
	stuck  atomic.Bool // bbolt panicked and may hold locks, so it can't be used or closed
}

func options() *bbolt.Options {
	return &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapSize}
}

// Open opens a file that is there.
func Open(path string) (d *File, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	var db *bbolt.DB
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, options())
		return err
	})
	if err == nil {
		if d, err = newFile(db, file, path); err != nil {
			err = errors.Join(err, guard(db.Close))
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return d, nil
}

func newFile(db *bbolt.DB, file *os.File, path string) (*File, error) {
	db.AllocSize = growth
	d := &File{db: db, path: path, file: file, pageSize: db.Info().PageSize}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	d.length.Store(info.Size())
	whole, err := d.headers()
	if err != nil {
		return nil, err
	}
	d.half = whole == 1
	return d, d.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return Damagef("it is cut off: of %d bytes %d are left", tx.Size(), info.Size())
		}
		return nil
	})
}

// Create makes a file with what fill puts into it. The file has the name under until it
// is complete, so that path is a whole file or none.
func Create(under, path string, fill func(*bbolt.Tx) error) (*File, error) {
	os.Remove(under)
	db, err := bbolt.Open(under, 0o600, options())
	if err == nil {
		db.AllocSize = growth
		err = db.Update(fill)
	}
	if err == nil {
		var d *File
		if d, err = publish(db, under, path); err == nil {
			return d, nil
		}
		if d != nil {
			d.file.Close()
		}
	}
	if db != nil {
		db.Close()
	}
	os.Remove(under)
	return nil, err
}

// publish gives a complete and flushed file its name. A file that had the name
// loses it. If the new file got the name, publish returns a database, even with
// an error.
func publish(db *bbolt.DB, under, path string) (*File, error) {
	file, err := os.OpenFile(under, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	d, err := newFile(db, file, path)
	if err == nil {
		err = os.Rename(under, path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return d, SyncDir(filepath.Dir(path))
}

// Close closes the file. A stuck bbolt would block for ever, so its map stays
// until the process ends.
func (d *File) Close() error {
	err := d.file.Close()
	if d.stuck.Load() {
		return err
	}
	return errors.Join(err, guard(d.db.Close))
}

// headers returns how many of the file's two headers are whole, or an error if the
// file was cut off. In bbolt's format, the header of a page begins after 16 bytes:
// 56 bytes and their FNV-1a sum.
func (d *File) headers() (whole int, err error) {
	was := d.length.Load() // before Stat, since the file may become longer meanwhile
	for i := range 2 {
		var b [80]byte
		if _, err := d.file.ReadAt(b[:], int64(i*d.pageSize)); err != nil && err != io.EOF {
			return 0, err
		}
		sum := fnv.New64a()
		sum.Write(b[16:72])
		if binary.NativeEndian.Uint64(b[72:]) == sum.Sum64() {
			whole++
		}
	}
	info, err := d.file.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() < was {
		return 0, Damagef("it is cut off: of %d bytes %d are left", was, info.Size())
	}
	return whole, nil
}

// ready returns an error where the begin of a transaction would panic and leave
// bbolt's locks held: no header is whole, or the file was cut off.
func (d *File) ready() error {
	if d.stuck.Load() {
		return errStuck
	}
	whole, err := d.headers()
	if err == nil && whole == 0 {
		err = Damagef("both of its headers are damaged")
	}
	return err
}

// named returns an error unless the file still has its name. Whatever is written
// to a file without a name is lost.
func (d *File) named() error {
	there, err := os.Stat(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return d.removed()
	}
	if err != nil {
		return err
	}
	open, err := d.file.Stat()
	if err == nil && !os.SameFile(there, open) {
		err = d.removed()
	}
	return err
}

func (d *File) removed() error {
	return fmt.Errorf("%s was removed or replaced while towline was running; put it back, or restart towline", filepath.Base(d.path))
}

// extend appends zeros to the file before they are needed. If the disk has no space
// for them, it does nothing: there may be enough for a change.
func (d *File) extend() error {
	used := int64(0)
	if err := d.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return err
	}
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	length := info.Size()
	if length-used < ahead/2 {
		_, err := d.file.WriteAt(make([]byte, ahead), length)
		if err == nil {
			err = d.file.Sync()
		}
		if err == nil {
			length += ahead
		} else if err := d.file.Truncate(length); err != nil {
			return err
		}
	}
	d.length.Store(length)
	return nil
}

// Half reports whether one of the file's two headers was damaged when it was opened. The
// other one may lack the last change.
func (d *File) Half() bool { return d.half }

// Release takes the pages of the file that were read out of the process's memory: the
// kernel counts up to 64 KiB for each record. They stay in the page cache.
func (d *File) Release() {
	d.View(func(tx *bbolt.Tx) error {
		// Not beyond what is in use: something else may be mapped there.
		forget(d.db.Info().Data, uintptr(tx.Size()))
		return nil
	})
}

// View reads in a transaction.
func (d *File) View(read func(*bbolt.Tx) error) error {
	return guard(func() error {
		if err := d.ready(); err != nil {
			return err
		}
		var tx *bbolt.Tx
		err := d.use(func() (err error) { tx, err = d.db.Begin(false); return err })
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return read(tx)
	})
}

// use calls code of bbolt that may leave locks held when it panics.
func (d *File) use(code func() error) error {
	returned := false
	err := guard(func() error {
		err := code()
		returned = true
		return err
	})
	if !returned {
		d.stuck.Store(true)
	}
	return err
}

// Update changes the file: all or nothing, flushed when it returns nil. Once it has
// found damage, it refuses all changes.
func (d *File) Update(change func(*bbolt.Tx) error) error {
	if d.damage != nil {
		return d.damage
	}
	err := d.named()
	if err == nil {
		err = d.extend()
	}
	if err == nil {
		err = d.use(func() error { return d.db.Update(change) })
	}
	if IsDamage(err) {
		return d.found(err)
	}
	return err
}

// found keeps the damage that a change has found.
func (d *File) found(damage error) error {
	d.damage = fmt.Errorf("%w; restart towline: at its start it sets a damaged %s aside and begins a new one", damage, filepath.Base(d.path))
	return d.damage
}

// SyncDir flushes a directory, so that its names are the same after a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
