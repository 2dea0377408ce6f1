package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt/database"
)

func openTest(t *testing.T) (*database.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), fileName)
	d, err := database.Create(path+".new", path, create)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func TestReopenAfterAFailedMap(t *testing.T) {
	d, path := openTest(t)
	s := &Store{dir: filepath.Dir(path), db: d}
	if err := s.Save(1, nil); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if s.db == d || s.db == nil {
		t.Fatalf("it is not: %v", s.failure)
	}
	t.Cleanup(func() { s.db.Close() })
	if err := s.Save(2, nil); err != nil {
		t.Error(err)
	}
	if seq, _, err := s.Load(); seq != 2 || err != nil {
		t.Errorf("the seq is %d, %v", seq, err)
	}
}

func TestFileOfANewerTowline(t *testing.T) {
	d, _ := openTest(t)
	err := d.Update(func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		value := make([]byte, sealSize+16)
		seal(value)
		value[0] = version + 1
		sum := checksum(value)
		value[1], value[2], value[3], value[4] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		return b.meta.Put(headKey, value)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.View(func(tx *bbolt.Tx) error { _, _, err := load(tx); return err })
	if !errors.Is(err, errNewer) || database.IsDamage(err) {
		t.Errorf("it gives %v", err)
	}
}

// A panic of bbolt in a change is an error, no change follows it, and Close
// does not wait for the locks that bbolt may hold.
func TestPanicInAChange(t *testing.T) {
	d, path := openTest(t)
	lock, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{dir: filepath.Dir(path), db: d, lock: lock}
	if err := s.Save(1, nil); err != nil {
		t.Fatal(err)
	}
	err = d.Update(func(*bbolt.Tx) error { panic("page 7: invalid page type: 0: 10") })
	if !database.IsDamage(err) || !strings.Contains(err.Error(), "page 7") {
		t.Errorf("the panic becomes %v", err)
	}
	for range 2 {
		if err := s.Save(2, nil); puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), "page 7") || !strings.Contains(err.Error(), "restart towline") {
			t.Errorf("Save gives %v", err)
		}
	}
	if err := s.KeepPrivate("sha256:1"); !database.IsDamage(err) && puller.KindOf(err) != puller.ErrInternal {
		t.Errorf("KeepPrivate gives %v", err)
	}
	s.Close()
}
