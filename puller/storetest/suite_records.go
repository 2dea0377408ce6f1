package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// RecordsFixture is a kind of store.Records under test.
type RecordsFixture struct {
	// Open returns Records with nothing in them.
	Open func(t *testing.T) store.Records
	// Reopen closes their store and opens what it kept, as the next start does.
	Reopen func(t *testing.T, r store.Records) store.Records
}

// RunRecords tests the contract of store.Records.
func RunRecords(t *testing.T, f RecordsFixture) {
	t.Run("keeps", f.testKeeps)
	t.Run("deletes", f.testDeletes)
	t.Run("refuses", f.testRefuses)
	t.Run("takes no more than it may", f.testLimit)
	t.Run("shares no memory", f.testRecordAliases)
	t.Run("is used from many goroutines", f.testRecordsConcurrent)
}

// checkedRecords are Records in a test.
type checkedRecords struct {
	store.Records
	*testing.T
}

func (r checkedRecords) has(kind string, want map[string]string) {
	r.Helper()
	loaded, err := r.Load(kind)
	if err != nil {
		r.Fatal(err)
	}
	got := make(map[string]string)
	for key, value := range loaded {
		got[key] = string(value)
	}
	if want == nil {
		want = map[string]string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("%s (-want +got):\n%s", kind, diff)
	}
}

func (r checkedRecords) save(kind string, values map[string]string) {
	r.Helper()
	given := make(map[string][]byte)
	for key, value := range values {
		given[key] = []byte(value)
	}
	if err := r.Save(kind, given); err != nil {
		r.Fatal(err)
	}
}

func (r checkedRecords) remove(kind string, keys ...string) {
	r.Helper()
	if err := r.Delete(kind, keys); err != nil {
		r.Fatal(err)
	}
}

func (f RecordsFixture) testKeeps(t *testing.T) {
	r := checkedRecords{f.Open(t), t}
	r.has("set", nil)
	r.save("set", map[string]string{"a": "1", "b": "", "\xff\x00odd": "\x00\xff"})
	r.save("set", nil)
	r.save("set-2", map[string]string{"a": "other"}) // a kind that begins as another one
	r.save("se", map[string]string{"t": "short"})
	r.save("set", map[string]string{"a": "2", "c": strings.Repeat("c", store.MaxRecordValue)})
	for range 2 {
		r.has("set", map[string]string{"a": "2", "b": "", "\xff\x00odd": "\x00\xff", "c": strings.Repeat("c", store.MaxRecordValue)})
		r.has("set-2", map[string]string{"a": "other"})
		r.has("se", map[string]string{"t": "short"})
		r.has("s", nil)
		r.Records = f.Reopen(t, r.Records)
	}
}

func (f RecordsFixture) testDeletes(t *testing.T) {
	r := checkedRecords{f.Open(t), t}
	r.remove("lease", "a")
	r.save("lease", map[string]string{"a": "1", "b": "2", "c": "3"})
	r.save("set", map[string]string{"a": "set"})
	r.remove("lease", "a", "c", "never", "a")
	r.remove("lease")
	for range 2 {
		r.has("lease", map[string]string{"b": "2"})
		r.has("set", map[string]string{"a": "set"})
		r.Records = f.Reopen(t, r.Records)
	}
	r.save("lease", map[string]string{"a": "again"})
	r.has("lease", map[string]string{"a": "again", "b": "2"})
}

func (f RecordsFixture) testRefuses(t *testing.T) {
	r := checkedRecords{f.Open(t), t}
	for _, kind := range []string{"", "Set", "se\x00t", "s t", strings.Repeat("k", store.MaxRecordName+1)} {
		_, loadErr := r.Load(kind)
		for _, err := range []error{loadErr, r.Save(kind, map[string][]byte{"a": nil}), r.Delete(kind, []string{"a"})} {
			if puller.KindOf(err) != puller.ErrInvalidRequest {
				t.Errorf("the kind %q gives %v", kind, err)
			}
		}
	}
	for key, value := range map[string]int{"": 1, strings.Repeat("k", store.MaxRecordName+1): 1, "long": store.MaxRecordValue + 1} {
		err := r.Save("set", map[string][]byte{"good": []byte("1"), key: make([]byte, value)})
		if puller.KindOf(err) != puller.ErrInvalidRequest {
			t.Errorf("%d bytes under a key of %d give %v", value, len(key), err)
		}
	}
	r.has("set", nil)
}

func (f RecordsFixture) testLimit(t *testing.T) {
	r := checkedRecords{f.Open(t), t}
	big := strings.Repeat("b", store.MaxRecordValue)
	all := make(map[string]string)
	for i := range store.MaxRecordsBytes / store.MaxRecordValue {
		all[fmt.Sprint(i)] = big
	}
	r.save("set", all)
	r.save("set", map[string]string{"0": big}) // in the place of one
	if err := r.Save("set", map[string][]byte{"more": []byte("m")}); puller.KindOf(err) != puller.ErrOverloaded {
		t.Errorf("one more byte gives %v", err)
	}
	r.save("lease", map[string]string{"more": "m"})
	r.Records = f.Reopen(t, r.Records)
	if err := r.Save("set", map[string][]byte{"more": []byte("m")}); puller.KindOf(err) != puller.ErrOverloaded {
		t.Errorf("one more byte after a restart gives %v", err)
	}
	r.remove("set", "0", "1")
	r.save("set", map[string]string{"more": "m"})
	delete(all, "0")
	delete(all, "1")
	all["more"] = "m"
	r.has("set", all)
}

func (f RecordsFixture) testRecordAliases(t *testing.T) {
	r := checkedRecords{f.Open(t), t}
	value := []byte("kept")
	if err := r.Save("set", map[string][]byte{"a": value}); err != nil {
		t.Fatal(err)
	}
	copy(value, "lost")
	loaded, err := r.Load("set")
	if err != nil || !bytes.Equal(loaded["a"], []byte("kept")) {
		t.Errorf("it is %q, %v", loaded["a"], err)
	}
	copy(loaded["a"], "lost")
	r.has("set", map[string]string{"a": "kept"})
}

func (f RecordsFixture) testRecordsConcurrent(t *testing.T) {
	r := checkedRecords{f.Open(t), t}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 5 {
				key := fmt.Sprint(i, n)
				if err := r.Save("set", map[string][]byte{key: []byte("1"), key + "-gone": nil}); err != nil {
					t.Error(err)
				}
				if err := r.Delete("set", []string{key + "-gone"}); err != nil {
					t.Error(err)
				}
				if _, err := r.Load("set"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := r.Load("set"); len(got) != 20 || err != nil {
		t.Errorf("%d are there, not 20: %v", len(got), err)
	}
}
