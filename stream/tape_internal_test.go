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
	topic.Play(tape, missed)
	print := func(n int) {
		for range n {
			err := topic.Print(Mark{}, func(seq uint64) Frame { return NewFrame(seq, "log", strings.Repeat("x", 300)) })
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
