package bolt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/pullertest"
)

// A small store: what it holds before its last Save and after.
const (
	endedJobs = 60
	lastSeq   = 77
)

func fill(t testing.TB, s puller.Store) {
	t.Helper()
	var records []puller.Record
	for n := range endedJobs {
		records = append(records, ended(n))
	}
	save(t, s, 1, records...)
	save(t, s, 2, pullertest.NewRecord(100), pullertest.NewRecord(101))
	save(t, s, lastSeq-1, ended(100), pullertest.NewRecord(102))
	save(t, s, lastSeq, pullertest.NewRecord(103))
}

// master is the file of a small store.
func master(t testing.TB) []byte {
	t.Helper()
	b := newBox(t)
	s := b.open()
	fill(t, s)
	closeIt(t, s)
	data, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimRight(data, "\x00") // it is grown ahead
}

func pages(data []byte) []byte {
	size := os.Getpagesize()
	return append(data, make([]byte, (size-len(data)%size)%size)...)
}

// survive opens a store on a file and uses it in every way. Whatever the file
// is: all is there, or it was set aside; where a record alone is damaged it is
// an error; and nothing is ever wrong.
func survive(t *testing.T, what string, data []byte) (kept bool) {
	t.Helper()
	b := newBox(t)
	if err := os.WriteFile(b.file(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(b.dir, b.logger())
	if err != nil {
		t.Errorf("%s: Open: %v", what, err)
		return false
	}
	defer s.Close()
	seq, unended, err := s.Load()
	if err != nil {
		t.Errorf("%s: Load: %v", what, err)
	}
	switch aside := b.aside(); {
	case len(aside) == 1:
		was, err := os.ReadFile(aside[0])
		if err != nil || !bytes.Equal(was, data) {
			t.Errorf("%s: what was set aside is not what was there: %v", what, err)
		}
		if log := b.log.String(); !strings.Contains(log, "level=error") || !strings.Contains(log, aside[0]) {
			t.Errorf("%s: the log does not tell of it: %s", what, log)
		}
		if seq != 0 || len(unended) != 0 {
			t.Errorf("%s: the new store is not empty", what)
		}
		usable(t, what, s)
		return false
	case len(aside) > 1:
		t.Errorf("%s: set aside twice: %q", what, aside)
	}
	want := []puller.Record{pullertest.NewRecord(101), pullertest.NewRecord(102), pullertest.NewRecord(103)}
	if seq == lastSeq-1 && strings.Contains(b.log.String(), "one of the two headers") {
		want = want[:2]
	} else if seq != lastSeq {
		t.Errorf("%s: the seq is %d", what, seq)
	}
	if !reflect.DeepEqual(unended, want) {
		t.Errorf("%s: what has not ended is %+v", what, unended)
	}
	readable(t, what, s, nil)
	usable(t, what, s)
	return true
}

// readable reads all that ended: each is right, or an error.
func readable(t *testing.T, what string, s puller.Store, others map[string]puller.Record) (errs int) {
	t.Helper()
	want := make(map[string]puller.Record)
	for n := range endedJobs {
		want[pullertest.RecordID(n)] = ended(n)
	}
	want[pullertest.RecordID(100)] = ended(100)
	for id, r := range want {
		for _, find := range []func() (puller.Record, error){
			func() (puller.Record, error) { return s.Record(id) },
			func() (puller.Record, error) { return s.Keyed(r.Key) },
		} {
			got, err := find()
			if err != nil {
				errs++
				if k := puller.KindOf(err); k != puller.Internal && k != puller.NotFound {
					t.Errorf("%s: reading gives %v", what, err)
				}
			} else if !reflect.DeepEqual(got, r) {
				t.Errorf("%s: record %s is %+v", what, id, got)
			}
		}
	}
	for _, f := range []puller.Filter{{Limit: 1000}, {State: puller.Succeeded}, {Kind: "pull", Image: ended(3).Job.Image}} {
		list, err := s.Ended(f)
		if err != nil {
			errs++
			if puller.KindOf(err) != puller.Internal {
				t.Errorf("%s: listing gives %v", what, err)
			}
		}
		for _, j := range list {
			if !reflect.DeepEqual(j, want[j.ID].Job) && !reflect.DeepEqual(j, others[j.ID].Job) {
				t.Errorf("%s: listed is %+v", what, j)
			}
		}
	}
	return errs
}

// usable changes the store until it has been begun anew, or all works.
func usable(t *testing.T, what string, s puller.Store) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil && err != puller.ErrStoreLost && puller.KindOf(err) != puller.Internal {
			t.Errorf("%s: a change gives %v", what, err)
		}
	}
	others := make(map[string]puller.Record)
	for n := range 30 { // beside and over those that are there
		r := ended(n * 7)
		r.Job.Attempt = 9
		others[r.Job.ID] = r
		err := s.Save(uint64(1000+n), []puller.Record{r, pullertest.NewRecord(300 + n)})
		check(err)
		if err != nil && err != puller.ErrStoreLost {
			t.Errorf("%s: a Save fails: %v", what, err)
		}
	}
	_, err := s.Prune(ended(20).Job.FinishedAt, 30)
	check(err)
	_, err = s.Prune(began, 0)
	check(err)
	if err := s.Save(2000, []puller.Record{pullertest.NewRecord(500)}); err == puller.ErrStoreLost {
		err = s.Save(2000, []puller.Record{pullertest.NewRecord(500)})
		check(err)
	}
	if got, err := s.Record(pullertest.RecordID(500)); err != nil || !reflect.DeepEqual(got, pullertest.NewRecord(500)) {
		t.Errorf("%s: in the end a record is %+v, %v", what, got, err)
	}
	if seq, _, err := s.Load(); seq != 2000 || err != nil {
		t.Errorf("%s: in the end the seq is %d, %v", what, seq, err)
	}
}

func TestAFileThatIsCutOffIsSetAside(t *testing.T) {
	data := pages(master(t))
	if !survive(t, "the whole file", data) {
		t.Fatal("the whole file is not good")
	}
	rng := rand.New(rand.NewPCG(11, 12))
	for _, size := range []int{0, 1, 63, 80, 4095, 4096, 4097, 4096 + 80, 8191, 8192, 8193, 12288, len(data) / 2, len(data) - 4096, len(data) - 1} {
		if survive(t, fmt.Sprintf("cut at %d", size), data[:size]) {
			t.Errorf("cut at %d, it is taken for whole", size)
		}
	}
	for range 40 {
		size := rng.IntN(len(data))
		if survive(t, fmt.Sprintf("cut at %d", size), data[:size]) {
			t.Errorf("cut at %d, it is taken for whole", size)
		}
	}
}

func TestNoDamageEndsTheProcessOrMakesThingsUp(t *testing.T) {
	data := pages(master(t))
	rng := rand.New(rand.NewPCG(13, 14))
	aside, n := 0, 400
	if testing.Short() {
		n = 50
	}
	for i := range n {
		bad := bytes.Clone(data)
		at := rng.IntN(len(bad))
		if rng.IntN(2) == 0 { // where the structure is
			at = at/4096*4096 + rng.IntN(64)
		}
		how := ""
		switch rng.IntN(5) {
		case 0:
			bad[at] ^= 1 << rng.IntN(8)
			how = "a bit"
		case 1:
			bad[at] = byte(rng.IntN(256))
			how = "a byte"
		case 2:
			page := at / 4096 * 4096
			clear(bad[page : page+4096])
			how = "a page of zeros"
		case 3:
			page, from := at/4096*4096, rng.IntN(len(bad)/4096)*4096
			copy(bad[page:page+4096], data[from:])
			how = "a page in another's place"
		case 4:
			for j := at; j < min(at+200, len(bad)); j++ {
				bad[j] = byte(rng.IntN(256))
			}
			how = "noise"
		}
		if !survive(t, fmt.Sprintf("%s at %d (%d)", how, at, i), bad) {
			aside++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d were set aside", aside, n)
	for what, bad := range map[string][]byte{
		"a text": []byte(strings.Repeat("this is no database\n", 3000)), "a short text": []byte("no"),
		"zeros": make([]byte, 1<<16), "two headers only": data[:8192],
	} {
		if survive(t, what, bad) {
			t.Errorf("%s is taken for a store", what)
		}
	}
}

// What happens to the file while it is open shows when it is used.
func TestDamageInAFileThatIsOpen(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	for i := range 60 {
		b := newBox(t)
		s := b.open()
		fill(t, s)
		f, err := os.OpenFile(b.file(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		size := int64(len(pages(master(t))))
		what := ""
		switch i % 4 {
		case 0:
			at := rng.Int64N(size)
			if i == 0 {
				at = 0
			}
			what = fmt.Sprintf("cut at %d", at)
			err = f.Truncate(at)
		case 1:
			at := rng.Int64N(size/4096) * 4096
			what = fmt.Sprintf("zeros at %d", at)
			_, err = f.WriteAt(make([]byte, 4096), at)
		case 2:
			what = "noise over all of it"
			noise := make([]byte, size)
			for j := range noise {
				noise[j] = byte(rng.IntN(256))
			}
			_, err = f.WriteAt(noise, 0)
		case 3:
			what = "no headers"
			_, err = f.WriteAt(make([]byte, 8192), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		readable(t, what, s, nil)
		if _, _, err := s.Load(); err != nil && puller.KindOf(err) != puller.Internal {
			t.Errorf("%s: Load gives %v", what, err)
		}
		usable(t, what, s)
		if i%4 != 1 && len(b.aside()) == 0 {
			t.Errorf("%s: it was not set aside", what)
		}
		if s.Close() != nil || t.Failed() {
			t.Fatalf("%s: Close", what)
		}
	}
}

func TestALostStoreSaysSoOnceAndKeepsTheOldFile(t *testing.T) {
	b := newBox(t)
	s := b.open()
	for range 3 {
		save(t, s, 5, pullertest.NewRecord(1))
		if err := os.Truncate(b.file(), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Record(pullertest.RecordID(1)); puller.KindOf(err) != puller.Internal || !strings.Contains(err.Error(), b.dir) {
			t.Errorf("a read gives %v", err)
		}
		if err := s.Save(6, []puller.Record{pullertest.NewRecord(2)}); err != puller.ErrStoreLost {
			t.Errorf("a Save gives %v", err)
		}
		if seq, unended, err := s.Load(); seq != 0 || len(unended) != 0 || err != nil {
			t.Errorf("the new store has seq %d and %d records, %v", seq, len(unended), err)
		}
	}
	if n := len(b.aside()); n != 3 {
		t.Errorf("%d files were set aside, not 3", n)
	}
	save(t, s, 7, pullertest.NewRecord(2))
	closeIt(t, s)
	if seq, unended, err := b.open().Load(); seq != 7 || len(unended) != 1 || err != nil {
		t.Errorf("the next start finds seq %d and %d records, %v", seq, len(unended), err)
	}
}

func TestWhatCannotBeOpenedIsAnErrorThatSaysWhatToDo(t *testing.T) {
	b := newBox(t)
	if err := os.Mkdir(b.file(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(b.dir, b.logger()); err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory in the file's place: %v", err)
	}

	for _, mode := range []os.FileMode{0, 0o400} {
		b = newBox(t)
		closeIt(t, b.open())
		if err := os.Chmod(b.file(), mode); err != nil {
			t.Fatal(err)
		}
		err := asNobody(t, b.dir, func() error { _, err := bolt.Open(b.dir, b.logger()); return err })
		if err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir) || !strings.Contains(err.Error(), "permission denied; let user") {
			t.Errorf("a file of mode %o: %v", mode, err)
		}
		if len(b.aside()) > 0 {
			t.Errorf("a file of mode %o was set aside", mode)
		}
	}

	b = newBox(t)
	if err := os.WriteFile(b.dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.dir += "/file"
	if _, err := bolt.Open(b.dir, b.logger()); err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir) {
		t.Errorf("a file in the directory's place: %v", err)
	}
}

// asNobody calls open on a thread that owns nothing, where this process may
// read everything. The directory stays its own.
func asNobody(t *testing.T, dir string, open func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return open()
	}
	const nobody = 65534
	for _, name := range []string{dir, dir + "/lock", dir + "/jobs.db"} {
		if err := os.Chown(name, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	for up := dir; up != os.TempDir() && up != "/"; up = up[:strings.LastIndex(up, "/")] {
		if err := os.Chmod(up, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends
		if err := syscall.Setfsuid(nobody); err != nil {
			result <- err
			return
		}
		result <- open()
	}()
	return <-result
}
