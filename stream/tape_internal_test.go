package stream

import (
	"path/filepath"
	"strings"
	"testing"
)

// A reader learns how far a tape has come, and reads after that: meanwhile the
// files may have gone to frames that it is not to be told yet.
func TestAnOldTipGivesNoNewFrames(t *testing.T) {
	tape, err := CreateTape(filepath.Join(t.TempDir(), "tape"), 4000)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	seq := new(Sequence)
	topic := NewTopic(seq)
	missed := func() Frame { return NewFrame(0, "notice", "missed") }
	topic.SetOutput(tape, missed)
	print := func(n int) {
		for range n {
			err := topic.AppendOutput(Mark{}, func(seq uint64) Frame { return NewFrame(seq, "log", strings.Repeat("x", 300)) })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, since := range []int{0, 1, 2, 3, 5, 8, 30} {
		print(20)
		old := tape.tip()
		print(since)
		place := tape.seek(old.reel[0].first)
		for more := true; more; {
			var frames []Frame
			if frames, more, err = tape.read(&place, old, 1<<60, missed); err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				if f.order > old.tail {
					t.Errorf("%d frames later: frame %d is after the tip, %d", since, f.order, old.tail)
				}
			}
		}
		if place.order != old.tail {
			t.Errorf("%d frames later: read up to %d of %d", since, place.order, old.tail)
		}
	}
}

func TestEntriesComeBackOrNotAtAll(t *testing.T) {
	type open struct {
		Job string `json:"job"`
	}
	good := entry{Frame: NewFrame(9, "log", open{}), prev: 8, mark: Mark{1, 2}}
	good.order = 9
	b := appendEntry(nil, &good)
	e, size := parseEntry(append(b, b...))
	if size != len(b) || e.order != 9 || e.prev != 8 || e.mark != good.mark || string(e.Append(nil, SSE, "j")) != "id: 9\nevent: log\ndata: {\"job\":\"j\"}\n\n" {
		t.Errorf("came back as %+v of %d bytes", e, size)
	}
	for n := range b {
		if _, size := parseEntry(b[:n]); size <= n {
			t.Errorf("of %d bytes %d are an entry", n, size)
		}
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, size := parseEntry(b); size != 0 && size <= len(b) {
				t.Errorf("with byte %d changed it is an entry", i)
			}
			b[i] ^= 1 << bit
		}
	}
	for name, change := range map[string]func(*entry){
		"no order":               func(e *entry) { e.order, e.prev = 0, 0 },
		"a later one before":     func(e *entry) { e.prev = 10 },
		"a job beyond its end":   func(e *entry) { e.job = len(e.data) + 1 },
		"more than is ever read": func(e *entry) { e.data = make([]byte, maxData+1) },
	} {
		bad := good
		change(&bad)
		if _, size := parseEntry(appendEntry(nil, &bad)); size != 0 {
			t.Errorf("with %s it is an entry", name)
		}
	}
}
