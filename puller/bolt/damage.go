package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt/database"
)

var (
	errClosed = errors.New("the store is closed")
	// errNewer is no damage: a newer build can read the file.
	errNewer = errors.New("jobs.db was written by a newer towline; start that one, or move the file away")
)

// fault gives an error the form of the domain.
func (s *Store) fault(op string, err error) error {
	var known *puller.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return &puller.Error{Op: op, Kind: known.Kind, Err: known.Err}
	}
	kind := puller.ErrInternal
	if database.IsFull(err) {
		kind = puller.ErrNoSpace
	}
	return &puller.Error{Op: op, Kind: kind, Err: fmt.Errorf("state_dir %s: %w", s.dir, advise(err))}
}

// advise adds to an error what the operator can do about it.
func advise(err error) error {
	switch {
	case database.IsFull(err):
		return fmt.Errorf("%w; make space there, or set state_dir to another disk", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; let user %d read and write there, or set state_dir to a directory of its own", err, os.Geteuid())
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; set state_dir to a directory that can be written", err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another process has %s open; end that one", fileName)
	}
	return err
}

// begin begins a new file. A damaged file that is there is set aside first.
func (s *Store) begin(damage error) error {
	if damage != nil {
		if err := setAside(s.dir, damage, s.log); err != nil {
			return err
		}
		// The last number can't be read any more. There were never as many numbers
		// as microseconds since 1970.
		s.floor.Store(uint64(time.Now().UnixMicro()))
	}
	db, err := database.Create(s.path(newName), s.path(fileName), func(tx *bbolt.Tx) error {
		err := create(tx)
		if err == nil && damage != nil {
			err = forgot(tx)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.failure, s.blank = db, nil, false
	return nil
}

// setAside renames the file of a state directory, if there is one, to a name that is
// free.
func setAside(dir string, damage error, log logrus.FieldLogger) error {
	path := filepath.Join(dir, fileName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	stamp := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	aside := stamp
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s-%d", stamp, n)
	}
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	log.WithFields(logrus.Fields{"path": path, "moved_to": aside, "error": damage}).
		Error("the file of jobs is damaged: it was set aside, and a new one was begun. Ended jobs are forgotten, and so are sets, leases and what was known of images. " +
			"Jobs that had not ended do not continue; submit them again. Check the disk")
	return database.SyncDir(dir)
}
