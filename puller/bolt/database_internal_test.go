package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
)

func openTest(t *testing.T) (*database, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), fileName)
	d, err := createDatabase(path+".new", path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d, path
}

// A file that is cut off in the midst of a transaction is a SIGBUS.
func TestGuardTurnsFaultsIntoDamage(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 8192)); err != nil {
		t.Fatal(err)
	}
	mapped, err := syscall.Mmap(int(f.Fd()), 0, 8192, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped)
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	err = guard(func() error { sum += mapped[5000]; return nil })
	if !isDamage(err) {
		t.Errorf("it gives %v, %d", err, sum)
	}
	if err := guard(func() error { return os.ErrClosed }); err != os.ErrClosed {
		t.Errorf("another error becomes %v", err)
	}
}

// A reader ends though the headers go while it reads, and another one comes.
func TestReadersEndWithoutHeaders(t *testing.T) {
	d, path := openTest(t)
	err := d.view(func(*bbolt.Tx) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 2*os.Getpagesize()), 0); err != nil {
			return err
		}
		return d.view(func(*bbolt.Tx) error { return errors.New("it begins") })
	})
	if !isDamage(err) {
		t.Errorf("the second reader gets %v", err)
	}
}

// Neither a reader nor a change begins on a file that was cut off, since bbolt
// would panic with its locks held.
func TestFileIsCutOffWhileOpen(t *testing.T) {
	d, path := openTest(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-4096); err != nil {
		t.Fatal(err)
	}
	nothing := func(*bbolt.Tx) error { return nil }
	for what, err := range map[string]error{"a reader": d.view(nothing), "a change": d.update(nothing)} {
		if !isDamage(err) || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%s gets %v", what, err)
		}
	}
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
	t.Cleanup(func() { s.db.close() })
	if err := s.Save(2, nil); err != nil {
		t.Error(err)
	}
	if seq, _, err := s.Load(); seq != 2 || err != nil {
		t.Errorf("the seq is %d, %v", seq, err)
	}
}

func TestFileOfANewerTowline(t *testing.T) {
	d, _ := openTest(t)
	err := d.update(func(tx *bbolt.Tx) error {
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
	err = d.view(func(tx *bbolt.Tx) error { _, _, err := load(tx); return err })
	if !errors.Is(err, errNewer) || isDamage(err) {
		t.Errorf("it gives %v", err)
	}
}

// A panic of bbolt in a change is an error, no change follows it, and Close
// does not wait for the locks that bbolt may hold.
func TestPanicInAChange(t *testing.T) {
	d, path := openTest(t)
	s := &Store{dir: filepath.Dir(path), db: d, lock: d.file}
	if err := s.Save(1, nil); err != nil {
		t.Fatal(err)
	}
	err := d.update(func(*bbolt.Tx) error { panic("page 7: invalid page type: 0: 10") })
	if !isDamage(err) || !strings.Contains(err.Error(), "page 7") {
		t.Errorf("the panic becomes %v", err)
	}
	for range 2 {
		if err := s.Save(2, nil); puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), "page 7") || !strings.Contains(err.Error(), "restart towline") {
			t.Errorf("Save gives %v", err)
		}
	}
	if err := s.KeepPrivate("sha256:1"); !isDamage(err) && puller.KindOf(err) != puller.ErrInternal {
		t.Errorf("KeepPrivate gives %v", err)
	}
	s.Close()
}
