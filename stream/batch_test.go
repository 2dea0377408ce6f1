package stream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/stream"
)

func TestReadersAtOnePositionShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		s.publish("state", "active")
		var subs []*stream.Subscription
		for range 50 {
			_, sub := s.topic.Subscribe()
			subs = append(subs, sub)
		}
		_, late := s.topic.Subscribe()
		batches := make([][]*stream.Batch, len(subs))
		var reading sync.WaitGroup
		for i, sub := range subs {
			reading.Go(func() {
				for {
					b, err := sub.Next(t.Context(), time.Hour)
					if err == io.EOF {
						return
					}
					batches[i] = append(batches[i], b)
				}
			})
		}
		for i := range 40 {
			s.post(fmt.Sprint("layer", i%4), fmt.Sprint(i))
			<-time.After(7 * time.Millisecond) // nothing happens at the same time
			if i%10 == 5 {
				s.publish("notice", fmt.Sprint(i))
			}
			<-time.After(10 * time.Millisecond)
		}
		s.end()
		reading.Wait()
		for i := range batches {
			if !slices.Equal(batches[i], batches[0]) {
				t.Fatalf("reader %d got other batches than the first", i)
			}
		}
		// 680 ms in beats, four notices and the end.
		if n := len(batches[0]); n < 8 || n > 9+4+1 {
			t.Errorf("a reader was woken %d times", n)
		}
		a, b := batches[0][0].Bytes(stream.SSE, "job"), batches[1][0].Bytes(stream.SSE, "job")
		if len(a) == 0 || &a[0] != &b[0] {
			t.Error("a batch is encoded more than once")
		}
		if got, want := sorted(rest(t, late)), []string{"15", "25", "35", "5", "EOF", "end", "layer0 36", "layer1 37", "layer2 38", "layer3 39"}; !slices.Equal(got, want) {
			t.Errorf("a reader that comes late gets %q, want %q", got, want)
		}
	})
}

// A reader that waits longer gets other batches.
func TestReadersThatWaitLongerShareNoBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		_, quick := s.topic.Subscribe()
		_, slow := s.topic.Subscribe()
		slow.Every = time.Second
		got := make(map[*stream.Subscription][]string)
		for i := range 50 {
			s.post("a", fmt.Sprint(i))
			if i%7 == 0 {
				s.publish("notice", fmt.Sprint("n", i))
			}
			for _, sub := range []*stream.Subscription{quick, slow} {
				frames, err := next(t.Context(), sub, 0)
				if err != nil {
					t.Fatal(err)
				}
				got[sub] = append(got[sub], words(t, frames)...)
			}
			<-time.After(stream.LayerInterval)
		}
		if len(got[quick]) != 50+8 {
			t.Errorf("the quick reader got %q", got[quick])
		}
		if len(got[slow]) != 5+8 {
			t.Errorf("the slow reader got %q", got[slow])
		}
	})
}

func TestBatchIsAChunk(t *testing.T) {
	calls := 0
	words := &stream.Format{Append: func(dst []byte, f *stream.Frame, job string) []byte {
		calls++
		var e event
		if f.Type == "state" || f.Decode(&e) != nil {
			return dst // this format has no place for it
		}
		return append(dst, e.Word+" of "+job+"\n"...)
	}}
	for _, n := range []int{0, 1, 2, 7, 300} {
		var frames []stream.Frame
		for i := range n {
			frames = append(frames, stream.NewFrame(uint64(i+1), []string{"state", "notice"}[i%2], event{Word: fmt.Sprint(i)}))
		}
		for _, format := range []*stream.Format{stream.NDJSON, stream.SSE, words} {
			var want []byte
			for i := range frames {
				want = format.Append(want, &frames[i], "job")
			}
			calls = 0
			b := stream.NewBatch(frames...)
			if diff := cmp.Diff(string(want), string(b.Bytes(format, "job"))); diff != "" {
				t.Errorf("%d frames: %s", n, diff)
			}
			chunk := b.Chunk(format, "job")
			if len(want) == 0 && len(chunk) > 0 {
				t.Errorf("no events are the chunk %q", chunk)
			}
			body := append(slices.Clone(chunk), "0\r\n\r\n"...)
			got, err := io.ReadAll(httputil.NewChunkedReader(bufio.NewReader(bytes.NewReader(body))))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d frames as a chunk: got %q, %v", n, got, err)
			}
			if format == words && calls != n {
				t.Errorf("%d frames were encoded in %d calls", n, calls)
			}
		}
	}
}
