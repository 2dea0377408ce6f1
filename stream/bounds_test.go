package stream_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream"
)

// mostAtOnce is what a batch of small events has at most, in bytes as NDJSON.
const mostAtOnce = 2*64<<10 + 1000

// checkBounds reads batches to the end, or until there is nothing new, and
// returns the events.
func checkBounds(t *testing.T, next func() (*stream.Batch, error)) []stream.Frame {
	t.Helper()
	var all []stream.Frame
	for {
		b, err := next()
		if err == io.EOF || b == nil && err == nil {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b.Bytes(stream.NDJSON, "job")); n > mostAtOnce {
			t.Errorf("a batch of %d frames has %d bytes", len(b.Frames()), n)
		}
		all = append(all, b.Frames()...)
	}
}

// heapInUse returns the bytes of live objects.
func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Readers of a backlog that take the first of it, and then read nothing, hold a
// batch that they share.
func TestBacklogReadersShareABatch(t *testing.T) {
	const readers, limit = 400, 4 << 20
	h := newTestLog(limit)
	topic := h.topic("a")
	for i := range 20_000 {
		topic.Publish(encoder([]string{"notice", "log"}[i%2], fmt.Sprint(i, strings.Repeat(" word", 100))))
	}
	oldest := uint64(0)
	for ; ; oldest++ {
		if _, err := h.Resume(all, missed, oldest); err == nil {
			break
		}
	}
	before := heapInUse()
	type reader struct {
		l     *stream.LogSubscription
		bytes []byte
	}
	held := make([]reader, readers)
	for i := range held {
		l, err := h.Resume(all, missed, oldest)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Next(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		held[i] = reader{l, b.Bytes(stream.NDJSON, "")}
	}
	if each := (heapInUse() - before) / readers; each > 4<<10 {
		t.Errorf("a reader holds %d bytes", each)
	}
	if &held[0].bytes[0] != &held[readers-1].bytes[0] {
		t.Error("two readers at the same position hold a batch each")
	}
	runtime.KeepAlive(held)
}

func TestBatchesAreBounded(t *testing.T) {
	const n = 5000
	word := strings.Repeat(" word", 40)
	t.Run("event_log", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newTestLog(64 << 20)
			topic := h.topic("a")
			latest := stream.NewLatest(h.seq)
			h.Show(latest, about("a"))
			for i := range n {
				topic.Publish(encoder([]string{"notice", "log"}[i%2], fmt.Sprint(i, word)))
				post(latest, fmt.Sprint(i), word)
			}
			<-time.After(2 * stream.LayerInterval)
			l, err := h.Resume(all, missed, 0)
			if err != nil {
				t.Fatal(err)
			}
			checkNumbers(t, checkBounds(t, func() (*stream.Batch, error) { return l.Next(t.Context(), 0) }), n, n)
		})
	})
	t.Run("present_state", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newTestLog(1 << 20)
			for i := range n {
				topic := h.topic(fmt.Sprint(i))
				topic.Publish(encoder("state", "queued"))
				topic.Publish(encoder("state", "active"+word))
				if i%2 == 1 {
					topic.End(encoder("result", "end")(h.Reserve()))
				}
			}
			l := h.Subscribe(all, missed)
			got := checkBounds(t, func() (*stream.Batch, error) { return l.Next(t.Context(), 0) })
			checkNumbers(t, got, n/2, 0)
		})
	})
	t.Run("record", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newTestTopic()
			for i := range n {
				s.publish("notice", fmt.Sprint(i, word))
				s.post(fmt.Sprint(i), word)
			}
			<-time.After(2 * stream.LayerInterval)
			frames, sub := s.topic.Resume(0)
			if len(frames) == 0 || len(frames) == 2*n {
				t.Errorf("it begins with %d frames", len(frames))
			}
			got := append(frames, checkBounds(t, func() (*stream.Batch, error) { return sub.Next(t.Context(), 0) })...)
			checkNumbers(t, got, n, n)
		})
	})
	t.Run("layers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newTestTopic()
			s.publish("state", "active")
			for i := range n {
				s.post(fmt.Sprint(i), word)
			}
			frames, sub := s.topic.Subscribe()
			s.end()
			got := append(frames, checkBounds(t, func() (*stream.Batch, error) { return sub.Next(t.Context(), 0) })...)
			checkNumbers(t, got, 2, n)
			if last := got[len(got)-1]; last.Type != "result" {
				t.Errorf("the last is a %s", last.Type)
			}
		})
	})
}

// checkNumbers checks that so many numbered frames came in order, and so many
// layers.
func checkNumbers(t *testing.T, got []stream.Frame, numbered, layers int) {
	t.Helper()
	var last uint64
	count := [2]int{}
	for _, f := range got {
		if f.Type == "layer" {
			count[1]++
			continue
		}
		count[0]++
		if f.Seq <= last {
			t.Errorf("%d comes after %d", f.Seq, last)
		}
		last = f.Seq
	}
	if want := [2]int{numbered, layers}; count != want {
		t.Errorf("numbered frames and layers: got %d, want %d", count, want)
	}
}
