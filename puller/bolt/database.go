package bolt

import (
	"errors"
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
	// use, and half of it how little may be left of them. A flush of what was
	// written before needs no change of the filesystem's own books, which costs
	// as much again.
	ahead = 2 << 20
	// lockWait is how long another process's lock on the file is waited for:
	// the directory's lock keeps other towlines away already.
	lockWait = 100 * time.Millisecond
)

// database is an open file.
type database struct {
	*bbolt.DB
	file *os.File // the same, to look at without mapping
	half bool     // one of its headers was damaged
	// broken says that a change found damage, stuck that bbolt panicked and
	// may have left locks held: then it can only be let go.
	broken, stuck atomic.Bool
}

var errFound = damagef("it was found so before")

func options() *bbolt.Options {
	return &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapSize}
}

// openDatabase opens a file that is there, after a look at all its pages.
func openDatabase(path string) (*database, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	d := &database{file: file}
	if d.half, err = check(file); err == nil {
		err = guard(func() (err error) {
			d.DB, err = bbolt.Open(path, 0o600, options())
			return err
		})
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	d.AllocSize = growth
	return d, nil
}

// createDatabase makes an empty one under a name of its own first, so that
// path has a whole file or none.
//
// lost says that it takes the place of one whose content is lost.
func createDatabase(under, path string, lost bool) (*database, error) {
	os.Remove(under)
	var db *bbolt.DB
	err := guard(func() (err error) {
		if db, err = bbolt.Open(under, 0o600, options()); err != nil {
			return err
		}
		db.AllocSize = growth
		return db.Update(func(tx *bbolt.Tx) error {
			err := create(tx)
			if err == nil && lost {
				err = forgot(tx)
			}
			return err
		})
	})
	if err == nil {
		var d *database
		if d, err = publish(db, under, path); err == nil {
			return d, nil
		}
		if d != nil {
			d.file.Close()
		}
	}
	if db != nil && !isDamage(err) { // else it may be stuck
		db.Close()
	}
	os.Remove(under)
	return nil, err
}

// publish gives a file that is complete and flushed its name, in place of the
// one that has it. It returns a database where the file got it, also with an
// error.
func publish(db *bbolt.DB, under, path string) (*database, error) {
	file, err := os.OpenFile(under, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(under, path); err != nil {
		file.Close()
		return nil, err
	}
	return &database{DB: db, file: file}, syncDir(filepath.Dir(path))
}

// syncDir flushes a directory, so that its names are as they are after a
// power cut too.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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

// ready keeps bbolt from beginning a transaction on headers that it would
// panic over, with locks held, and from one on a file that has become shorter.
func (d *database) ready() error {
	if d.stuck.Load() {
		return errFound
	}
	_, _, err := readMeta(d.file)
	return err
}

// extend makes the file longer by zeros before it must become longer. It does
// nothing where there is no space for that: there may be enough for a change.
func (d *database) extend() error {
	m, _, err := readMeta(d.file)
	if err != nil {
		return err
	}
	info, err := d.file.Stat()
	if err != nil || info.Size()-int64(m.end)*int64(m.pageSize) >= ahead/2 {
		return err
	}
	_, err = d.file.WriteAt(make([]byte, ahead), info.Size())
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		return d.file.Truncate(info.Size())
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

// release gives the memory back that the map takes; what is read again comes
// from the page cache.
func (d *database) release() {
	d.view(func(tx *bbolt.Tx) error {
		// Not beyond what is in use: there may be something else.
		forget(d.Info().Data, uintptr(tx.Size()))
		return nil
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

// update changes the file: all or nothing, flushed when it returns nil. Damage
// that it finds stays found.
func (d *database) update(change func(*bbolt.Tx) error) error {
	if d.broken.Load() {
		return errFound
	}
	err := guard(func() error {
		if err := d.ready(); err != nil {
			return err
		}
		return d.extend()
	})
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
		d.broken.Store(true)
	}
	return err
}
