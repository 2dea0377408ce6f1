package outputlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/stream/outputlog"
)

// A log that an earlier build has written is read, and written on. It had twenty
// entries of 01RECORDED and of jobs to be filled in, of which the first twelve
// were dropped and the sixteenth did not fit.
func TestRecordedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output")
	for i := range 4 {
		data, err := os.ReadFile(fmt.Sprint("testdata/output.", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprint(path, ".", i), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"gap 112", "113 12", "114 13", "115 14", "gap 116", "117 16", "118 17", "119 18", "120 19"}
	readOnly, err := outputlog.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, entries(t, readOnly)); diff != "" {
		t.Error(diff)
	}
	if readOnly.Size() != 2582 || readOnly.Complete() {
		t.Errorf("it has %d bytes, complete: %v", readOnly.Size(), readOnly.Complete())
	}
	l, err := outputlog.Open(path, 4000)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Offsets(); got != (outputlog.Offsets{2525, 7275}) {
		t.Errorf("the offsets are %v", got)
	}
	if err := l.Append(outputlog.Entry{Order: 121, Type: "log", Data: []byte(`{"seq":121,"text":"new x"}`)}, outputlog.Offsets{2530, 7275}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(want, "121 new"), entries(t, l)); diff != "" {
		t.Error(diff)
	}
}

// entries returns the number and the first word of each entry.
func entries(t *testing.T, l *outputlog.Log) (all []string) {
	t.Helper()
	var cursor outputlog.Cursor
	for more := true; more; {
		var got []outputlog.Entry
		var err error
		if got, more, err = l.Read(&cursor, l.Snapshot(), 1<<60); err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			if e.IsGap() {
				all = append(all, fmt.Sprint("gap ", e.Order))
				continue
			}
			_, text, _ := strings.Cut(string(e.Data), `"text":"`)
			word, _, _ := strings.Cut(text, " ")
			all = append(all, fmt.Sprint(e.Order, " ", word))
			if filled := strings.Contains(string(e.Data), `"job":"01RECORDED"`); filled && e.Job != 0 || e.Job != 0 && string(e.Data[e.Job-7:e.Job]) != `"job":"` {
				t.Errorf("entry %d has its job at %d: %.60s", e.Order, e.Job, e.Data)
			}
		}
	}
	return all
}
