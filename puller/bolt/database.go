package bolt

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// mapSize is how much address space the file gets at first, in bytes. As
	// long as it is enough, Save need not wait for readers so as to map more.
	mapSize = 256 << 20
	// growth is by how many bytes the file becomes longer at a time; each costs
	// a flush.
	growth = 4 << 20
	// ahead is how many bytes of zeros are written at a time after what is in
	// use, and half of it how little may be left of them. A flush of a place that
	// was written before needs no change of the filesystem's own metadata, which
	// costs as much again.
	ahead = 2 << 20
	// lockWait is how long another process's lock on the file is waited for:
	// the directory's lock keeps other towlines away already.
	lockWait = 100 * time.Millisecond
)

var (
	errRemoved = errors.New(fileName + " was removed or replaced while towline was running; put it back, or restart towline")
	errStuck   = damagef("its headers were damaged while it was read")
)

// database is an open file.
type database struct {
	*bbolt.DB
	path     string
	file     *os.File // the same file, read without mapping it
	pageSize int
	half     bool         // one of its two headers was damaged when it was opened
	length   atomic.Int64 // bytes; an open file never becomes shorter

	damage error       // that a change found: no other change follows. One goroutine changes at a time
	stuck  atomic.Bool // bbolt panicked and may hold locks: it can't be closed
}

func options() *bbolt.Options {
	return &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapSize}
}

// openDatabase opens a file that is there.
func openDatabase(path string) (d *database, err error) {
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
		if d, err = newDatabase(db, file, path); err != nil {
			err = errors.Join(err, guard(db.Close))
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return d, nil
}

func newDatabase(db *bbolt.DB, file *os.File, path string) (*database, error) {
	db.AllocSize = growth
	d := &database{DB: db, path: path, file: file, pageSize: db.Info().PageSize}
	whole, err := d.headers()
	if err != nil {
		return nil, err
	}
	d.half = whole == 1
	return d, d.view(func(tx *bbolt.Tx) error {
		if length := d.length.Load(); tx.Size() > length {
			return damagef("it is cut off: of %d bytes %d are left", tx.Size(), length)
		}
		return nil
	})
}

// createDatabase makes an empty file under a name of its own first, so that path
// has a whole file or none. lost says that the content of the one before it is
// lost.
func createDatabase(under, path string, lost bool) (*database, error) {
	os.Remove(under)
	db, err := bbolt.Open(under, 0o600, options())
	if err == nil {
		db.AllocSize = growth
		err = db.Update(func(tx *bbolt.Tx) error {
			err := create(tx)
			if err == nil && lost {
				err = forgot(tx)
			}
			return err
		})
	}
	if err == nil {
		var d *database
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

// publish gives a file that is complete and flushed its name, in place of the
// one that has it. It returns a database where the file got the name, also with
// an error.
func publish(db *bbolt.DB, under, path string) (*database, error) {
	file, err := os.OpenFile(under, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	d, err := newDatabase(db, file, path)
	if err == nil {
		err = os.Rename(under, path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return d, syncDir(filepath.Dir(path))
}

// close closes the file. If bbolt is stuck that would take for ever; then the
// map stays until the process ends.
func (d *database) close() error {
	err := d.file.Close()
	if d.stuck.Load() {
		return err
	}
	return errors.Join(err, guard(d.DB.Close))
}

// headers returns how many of the file's two headers are whole, and notes the
// file's length. In bbolt's format, a header is 56 bytes behind the 16 of its
// page, with their FNV-1a sum after them.
func (d *database) headers() (whole int, err error) {
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
	if was := d.length.Load(); info.Size() < was {
		return 0, damagef("it is cut off: of %d bytes %d are left", was, info.Size())
	}
	d.length.Store(info.Size())
	return whole, nil
}

// ready returns an error where bbolt would panic at the begin of a transaction
// and keep its locks: without a whole header, or where the file was cut off.
func (d *database) ready() error {
	if d.stuck.Load() {
		return errStuck
	}
	whole, err := d.headers()
	if err == nil && whole == 0 {
		err = damagef("both of its headers are damaged")
	}
	return err
}

// named returns an error unless the file still has its name. What is written to
// one without a name is lost.
func (d *database) named() error {
	there, err := os.Stat(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return errRemoved
	}
	if err != nil {
		return err
	}
	open, err := d.file.Stat()
	if err == nil && !os.SameFile(there, open) {
		err = errRemoved
	}
	return err
}

// extend makes the file longer by zeros before it must become longer. It does
// nothing where there is no space for that: there may be enough for a change.
func (d *database) extend() error {
	used := int64(0)
	if err := d.view(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return err
	}
	length := d.length.Load()
	if length-used >= ahead/2 {
		return nil
	}
	_, err := d.file.WriteAt(make([]byte, ahead), length)
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		return d.file.Truncate(length)
	}
	return nil
}

// view reads in a transaction.
func (d *database) view(read func(*bbolt.Tx) error) error {
	return guard(func() error {
		if err := d.ready(); err != nil {
			return err
		}
		tx, err := d.begin()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return read(tx)
	})
}

func (d *database) begin() (*bbolt.Tx, error) {
	began := false
	defer func() {
		if !began {
			d.stuck.Store(true)
		}
	}()
	tx, err := d.Begin(false)
	began = true
	return tx, err
}

// release gives the memory back that the map takes; what is read again comes
// from the page cache.
func (d *database) release() {
	d.view(func(tx *bbolt.Tx) error {
		// Not beyond what is in use: there may be something else.
		forget(d.Info().Data, uintptr(tx.Size()))
		return nil
	})
}

// update changes the file: all or nothing, flushed when it returns nil. After it
// has found damage, it changes nothing any more.
func (d *database) update(change func(*bbolt.Tx) error) error {
	if d.damage != nil {
		return d.damage
	}
	err := d.named()
	if err == nil {
		err = d.extend()
	}
	if err == nil {
		ended := false
		err = guard(func() error {
			err := d.Update(change)
			ended = true
			return err
		})
		if !ended {
			d.stuck.Store(true)
		}
	}
	if isDamage(err) {
		d.damage = err
	}
	return err
}
