package stream_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream"
)

// event is what the tests publish.
type event struct {
	Seq  uint64 `json:"seq,omitempty"`
	Type string `json:"type"`
	Job  string `json:"job"`
	Word string `json:"word"`
}

// A testTopic is a topic that shows layers.
type testTopic struct {
	seq    *stream.Sequence
	topic  *stream.Topic
	latest *stream.Latest
}

func newTestTopic() *testTopic {
	seq := new(stream.Sequence)
	s := &testTopic{seq: seq, topic: stream.NewTopic(seq), latest: stream.NewLatest(seq)}
	s.topic.ShowLatest(s.latest)
	return s
}

func encoder(typ, word string) func(uint64) stream.Frame {
	return func(seq uint64) stream.Frame {
		return stream.NewFrame(seq, typ, event{Seq: seq, Type: typ, Word: word})
	}
}

func (s *testTopic) publish(typ, word string) { s.topic.Publish(encoder(typ, word)) }
func (s *testTopic) end()                     { s.topic.End(encoder("result", "end")(s.seq.Next())) }

func (s *testTopic) post(id, word string) { post(s.latest, id, word) }

func post(b *stream.Latest, id, word string) {
	b.Set(id, stream.NewFrame(0, "layer", event{Type: "layer", Word: id + " " + word}))
}

// next is Subscription.Next, but returns frames.
func next(ctx context.Context, s *stream.Subscription, wait time.Duration) ([]stream.Frame, error) {
	b, err := s.Next(ctx, wait)
	if b == nil {
		return nil, err
	}
	return b.Frames(), err
}

// words returns the frames' words, and fails where a frame is numbered other
// than its type asks for.
func words(t *testing.T, frames []stream.Frame) []string {
	t.Helper()
	var all []string
	for _, f := range frames {
		var e event
		if err := json.Unmarshal(stream.NDJSON.Append(nil, &f, ""), &e); err != nil {
			t.Fatal(err)
		}
		if e.Seq != f.Seq || e.Type != f.Type || (f.Seq == 0) != (f.Type == "layer") {
			t.Errorf("frame %d of type %q has %+v", f.Seq, f.Type, e)
		}
		all = append(all, e.Word)
	}
	return all
}

// rest reads a subscription until there is nothing new; io.EOF is
// "EOF". It must run in a synctest bubble.
func rest(t *testing.T, s *stream.Subscription) []string {
	t.Helper()
	var all []string
	for {
		frames, err := next(t.Context(), s, time.Minute)
		all = append(all, words(t, frames)...)
		if err == io.EOF {
			return append(all, "EOF")
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			return all
		}
		if len(all) > 1000 {
			t.Fatalf("no end after %q", all[:20])
		}
	}
}

// script is a job's life, a step a frame; frame i has number i+1.
var script = []struct{ typ, word string }{
	{"state", "queued"}, {"layer", "a 1"}, {"layer", "b 1"}, {"notice", "careful"}, {"layer", "a 2"}, {"state", "active"},
	{"log", "hello"}, {"layer", "b 2"}, {"layer", "a 3"}, {"notice", "again"}, {"layer", "b 3"}, {"result", "end"},
}

func (s *testTopic) play(i int) {
	switch step := script[i]; step.typ {
	case "layer":
		id, word, _ := strings.Cut(step.word, " ")
		s.post(id, word)
	case "result":
		s.end()
	default:
		s.publish(step.typ, step.word)
	}
}

// latest returns the words of the steps from one to before another that keep
// says yes to, with each layer at its latest only.
func latest(from, to int, keep func(i int) bool) []string {
	var all []string
	for i := from; i < to; i++ {
		id, _, isLayer := strings.Cut(script[i].word, " ")
		replaced := isLayer && slices.ContainsFunc(script[i+1:to], func(later struct{ typ, word string }) bool {
			return strings.HasPrefix(later.word, id+" ")
		})
		if !replaced && (isLayer || keep(i)) {
			all = append(all, script[i].word)
		}
	}
	return all
}

func every(int) bool { return true }

func TestSubscribeMissesAndRepeatsNothing(t *testing.T) {
	for at := 0; at <= len(script); at++ {
		synctest.Test(t, func(t *testing.T) {
			s := newTestTopic()
			for i := range at {
				s.play(i)
			}
			present := latest(0, at, func(i int) bool {
				state := script[i].typ == "state"
				for later := i + 1; later < at; later++ {
					state = state && script[later].typ != "state"
				}
				return state || script[i].typ == "result"
			})
			check := func(what string, got, want []string) {
				t.Helper()
				if !slices.Equal(got, want) {
					t.Errorf("after %d steps %s: got %q, want %q", at, what, got, want)
				}
			}
			snapshot, quick := s.topic.Subscribe()
			check("the snapshot", words(t, snapshot), present)
			snapshot, slow := s.topic.Subscribe()
			check("the second snapshot", words(t, snapshot), present)

			for i := at; i < len(script); i++ {
				s.play(i)
				frames, err := next(t.Context(), quick, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				check(fmt.Sprint("a quick reader of step ", i), words(t, frames), []string{script[i].word})
			}
			check("a quick reader's end", rest(t, quick), []string{"EOF"})
			check("a slow reader", rest(t, slow), append(latest(at, len(script), every), "EOF"))
		})
	}
}

// Readers that come at the same state share the batch that they begin with.
func TestFirstBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		for i := range script {
			s.play(i)
			frames, sub := s.topic.Subscribe()
			first := sub.First(frames)
			if again, other := s.topic.Subscribe(); other.First(again) != first {
				t.Errorf("after step %d two readers have batches of their own", i)
			}
			if got, want := words(t, first.Frames()), words(t, frames); !slices.Equal(got, want) {
				t.Errorf("after step %d a reader begins with %q, not with %q", i, got, want)
			}
			own := append([]stream.Frame{stream.NewFrame(0, "layer", event{Type: "layer", Word: "own"})}, frames...)
			if got, want := words(t, sub.First(own).Frames()), words(t, own); !slices.Equal(got, want) {
				t.Errorf("after step %d a reader with a frame of its own begins with %q, not with %q", i, got, want)
			}
		}
	})
}

func TestResumeHasEachNumberedFrameOnce(t *testing.T) {
	for at := 0; at <= len(script); at++ {
		for seq := 0; seq <= at; seq++ {
			synctest.Test(t, func(t *testing.T) {
				s := newTestTopic()
				for i := range at {
					s.play(i)
				}
				missed, sub := s.topic.Resume(uint64(seq))
				if got, want := words(t, missed), latest(0, at, func(i int) bool { return i >= seq }); !slices.Equal(got, want) {
					t.Errorf("resumed from %d after %d steps: got %q, want %q", seq, at, got, want)
				}
				for i := at; i < len(script); i++ {
					s.play(i)
				}
				if got, want := rest(t, sub), append(latest(at, len(script), every), "EOF"); !slices.Equal(got, want) {
					t.Errorf("resumed from %d after %d steps, then: got %q, want %q", seq, at, got, want)
				}
			})
		}
	}
}

func TestLayersAreConflated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		_, sub := s.topic.Subscribe()
		for i := range 1000 {
			s.post(fmt.Sprint("layer", i%3), fmt.Sprint(i))
		}
		<-time.After(2 * stream.LayerInterval)
		if got, want := rest(t, sub), []string{"layer0 999", "layer1 997", "layer2 998"}; !slices.Equal(sorted(got), want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func sorted(words []string) []string { return slices.Sorted(slices.Values(words)) }

func TestPublishWakesReaders(t *testing.T) {
	wakers := map[string]func(*testTopic){
		"a numbered frame": func(s *testTopic) { s.publish("state", "x") },
		"a layer":          func(s *testTopic) { s.post("a", "x") },
		"the end":          (*testTopic).end,
		"another attempt": func(s *testTopic) {
			b := stream.NewLatest(s.seq)
			post(b, "a", "x")
			s.topic.ShowLatest(b)
		},
		"a layer of another attempt": func(s *testTopic) {
			b := stream.NewLatest(s.seq)
			s.topic.ShowLatest(b)
			synctest.Wait()
			post(b, "a", "x")
		},
	}
	for name, wake := range wakers {
		synctest.Test(t, func(t *testing.T) {
			s := newTestTopic()
			_, sub := s.topic.Subscribe()
			start := time.Now()
			done := make(chan struct{})
			go func() {
				defer close(done)
				frames, err := next(t.Context(), sub, time.Hour)
				if len(frames) != 1 || err != nil || time.Since(start) != time.Minute {
					t.Errorf("%s: after %v got %d frames and %v", name, time.Since(start), len(frames), err)
				}
			}()
			<-time.After(time.Minute)
			wake(s)
			<-done
		})
	}
}

func TestEverySpacesLayersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		s.post("a", "0")
		_, sub := s.topic.Subscribe()
		sub.Every = time.Second
		start := time.Now()
		go func() {
			for tick := range 55 {
				<-time.After(100 * time.Millisecond)
				s.post("a", fmt.Sprint(tick))
				if tick == 22 {
					s.publish("notice", "n")
				}
			}
			s.end()
		}()
		var got []string
		for {
			frames, err := next(t.Context(), sub, time.Minute)
			if err == io.EOF {
				break
			}
			if err != nil || len(frames) == 0 {
				t.Fatal(frames, err)
			}
			got = append(got, fmt.Sprintf("%v %s", time.Since(start), strings.Join(words(t, frames), ", ")))
		}
		for i, line := range got { // a post and a reader's turn may fall on the same instant
			if when, word, ok := strings.Cut(line, " a "); ok && !strings.Contains(word, "end") {
				got[i] = when + " a layer"
			}
		}
		want := []string{"1s a layer", "2s a layer", "2.3s n", "3s a layer", "4s a layer", "5s a layer", "5.5s a 54, end"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestTheLastFrameIsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		s.publish("state", "active")
		s.post("a", "1")
		_, early := s.topic.Subscribe()
		_, slowed := s.topic.Subscribe()
		slowed.Every = time.Hour
		s.post("b", "1")
		s.end()
		// Another topic goes on with the layers, and this one is not to be changed.
		s.post("a", "2")
		s.post("c", "1")
		s.publish("notice", "late")
		s.end()
		other := stream.NewLatest(s.seq)
		post(other, "d", "1")
		s.topic.ShowLatest(other)

		for _, sub := range []*stream.Subscription{early, slowed} {
			if got, want := rest(t, sub), []string{"b 1", "end", "EOF"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		snapshot, sub := s.topic.Subscribe()
		if got, want := append(words(t, snapshot), rest(t, sub)...), []string{"active", "b 1", "end", "EOF"}; !slices.Equal(got, want) {
			t.Errorf("subscribed late: got %q, want %q", got, want)
		}
		missed, sub := s.topic.Resume(0)
		s.post("b", "2")
		if got, want := append(words(t, missed), rest(t, sub)...), []string{"active", "b 1", "end", "EOF"}; !slices.Equal(got, want) {
			t.Errorf("resumed late: got %q, want %q", got, want)
		}
	})
}

func TestTheEndStaysTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		_, sub := s.topic.Subscribe()
		s.end()
		if got, want := rest(t, sub), []string{"end", "EOF"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for range 3 {
			s.post("a", "1")
			s.publish("state", "late")
			if frames, err := next(t.Context(), sub, time.Hour); err != io.EOF || len(frames) > 0 {
				t.Errorf("after the end came %q, %v", words(t, frames), err)
			}
		}
	})
}

func TestNextReturnsNoBatchAfterItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		s.publish("state", "active")
		_, sub := s.topic.Subscribe()
		for _, wait := range []time.Duration{15 * time.Second, time.Millisecond, 0, -1} {
			start := time.Now()
			frames, err := next(t.Context(), sub, wait)
			if took := time.Since(start); frames != nil || err != nil || took != max(wait, 0) {
				t.Errorf("waiting %v gave %q, %v after %v", wait, words(t, frames), err, took)
			}
		}
		s.publish("state", "done")
		if frames, err := next(t.Context(), sub, 0); len(frames) != 1 || err != nil {
			t.Errorf("what is there already did not come: %q, %v", words(t, frames), err)
		}
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		_, sub := s.topic.Subscribe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		frames, err := next(ctx, sub, time.Hour)
		if len(frames) > 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %q, %v after %v", words(t, frames), err, time.Since(start))
		}
		s.publish("state", "active")
		if _, err := next(ctx, sub, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call after that gave %v", err)
		}
		if got, want := rest(t, sub), []string{"active"}; !slices.Equal(got, want) {
			t.Errorf("with another context: got %q, want %q", got, want)
		}
	})
}

func TestStoppedReadersCostNothing(t *testing.T) {
	s := newTestTopic()
	s.publish("state", "active")
	var subs []*stream.Subscription
	for range 100 {
		_, sub := s.topic.Subscribe()
		subs = append(subs, sub)
	}
	text := strings.Repeat("x", 1<<10)
	play := func(n int) uint64 {
		for i := range n {
			s.post(fmt.Sprint("layer", i%3), text)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := play(1000)
	if after := play(20_000); after > before+1<<20 {
		t.Errorf("20,000 posts that nobody read hold %d bytes", after-before)
	}
	s.end()
	for _, sub := range subs {
		frames, err := next(t.Context(), sub, 0)
		if got := words(t, frames); err != nil || len(got) != 4 || got[3] != "end" {
			t.Fatalf("a reader that came back got %d frames and %v", len(got), err)
		}
	}
}

func TestConcurrentReaders(t *testing.T) {
	const frames, readers = 300, 12
	s := newTestTopic()
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			got, sub := s.topic.Resume(0)
			if i%3 == 0 {
				sub.Every = time.Millisecond
			}
			var numbered []string
			var last uint64
			for {
				for j, f := range got {
					if f.Seq == 0 {
						continue
					}
					if f.Seq <= last {
						t.Errorf("frame %d came after %d", f.Seq, last)
					}
					last = f.Seq
					numbered = append(numbered, words(t, got[j:j+1])...)
				}
				var err error
				if got, err = next(t.Context(), sub, time.Minute); err == io.EOF {
					break
				} else if err != nil {
					t.Error(err)
					return
				}
			}
			if len(numbered) != frames+1 || numbered[frames] != "end" {
				t.Errorf("reader %d got %d numbered frames", i, len(numbered))
				return
			}
			for j, word := range numbered[:frames] {
				if word != fmt.Sprint(j) {
					t.Errorf("reader %d got %q at %d", i, word, j)
				}
			}
		})
		wg.Go(func() { // comes and goes
			ctx, cancel := context.WithCancel(t.Context())
			for range 20 {
				_, sub := s.topic.Subscribe()
				if _, err := next(ctx, sub, time.Microsecond); err != nil && err != io.EOF {
					t.Error(err)
				}
			}
			cancel()
		})
	}
	for i := range frames {
		for j := range 5 {
			s.post(fmt.Sprint("layer", j), fmt.Sprint(i))
		}
		if i%100 == 50 {
			s.latest = stream.NewLatest(s.seq)
			s.topic.ShowLatest(s.latest)
		}
		s.publish([]string{"state", "notice", "log"}[i%3], fmt.Sprint(i))
		runtime.Gosched()
	}
	s.end()
	wg.Wait()
}

func TestTopicsThatShareLayersFillInTheirJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		other := stream.NewTopic(s.seq)
		other.ShowLatest(s.latest)
		jobs := map[string]*stream.Topic{"job-1": s.topic, "job-2": other}
		subs := map[string]*stream.Subscription{}
		for job, topic := range jobs {
			_, subs[job] = topic.Subscribe()
		}
		s.post("a", "1")
		for job, topic := range jobs {
			topic.Publish(encoder("state", "for "+job))
		}
		s.post("b", "1")
		<-time.After(2 * stream.LayerInterval)
		for job, sub := range subs {
			frames, err := next(t.Context(), sub, 0)
			if got, want := words(t, frames), []string{"a 1", "for " + job, "b 1"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: got %q, %v; want %q", job, got, err, want)
			}
			for _, f := range frames {
				for _, line := range []string{string(stream.NDJSON.Append(nil, &f, job)), string(stream.SSE.Append(nil, &f, job))} {
					if strings.Count(line, `"job":"`+job+`"`) != 1 || strings.Count(line, "job-") != 1+strings.Count(line, "for job-") {
						t.Errorf("%s got %q", job, line)
					}
				}
			}
		}
		s.end()
		s.post("a", "2")
		if got, want := rest(t, subs["job-1"]), []string{"end", "EOF"}; !slices.Equal(got, want) {
			t.Errorf("the topic that ended: got %q, want %q", got, want)
		}
		if got, want := rest(t, subs["job-2"]), []string{"a 2"}; !slices.Equal(got, want) {
			t.Errorf("the topic that goes on: got %q, want %q", got, want)
		}
	})
}

func TestShowLatestReplacesLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestTopic()
		first, second := s.latest, stream.NewLatest(s.seq)
		_, sub := s.topic.Subscribe()
		post(second, "a", "of the second") // before it is shown, and before what is read
		post(first, "a", "1")
		if got, want := rest(t, sub), []string{"a 1"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		post(first, "b", "unread")
		s.topic.ShowLatest(second)
		post(first, "c", "late")
		if got, want := rest(t, sub), []string{"a of the second"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		post(first, "d", "late")
		post(second, "b", "of the second")
		if got, want := rest(t, sub), []string{"b of the second"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		snapshot, _ := s.topic.Subscribe()
		if got, want := words(t, snapshot), []string{"a of the second", "b of the second"}; !slices.Equal(got, want) {
			t.Errorf("the snapshot: got %q, want %q", got, want)
		}
	})
}

func TestTopicWithoutLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seq := new(stream.Sequence)
		topic := stream.NewTopic(seq)
		snapshot, sub := topic.Subscribe()
		topic.Publish(encoder("state", "queued"))
		topic.End(encoder("result", "end")(seq.Next()))
		if got, want := append(words(t, snapshot), rest(t, sub)...), []string{"queued", "end", "EOF"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestSequenceNeverRepeatsANumber(t *testing.T) {
	var seq stream.Sequence
	if first := seq.Next(); first != 1 {
		t.Errorf("the first number is %d", first)
	}
	const each = 1000
	given := make([][]uint64, 8)
	var wg sync.WaitGroup
	for i := range given {
		wg.Go(func() {
			for range each {
				given[i] = append(given[i], seq.Next())
			}
		})
	}
	wg.Wait()
	for _, numbers := range given {
		if !slices.IsSortedFunc(numbers, cmp.Compare[uint64]) {
			t.Error("numbers ran backwards")
		}
	}
	all := slices.Concat(given...)
	slices.Sort(all)
	if all = slices.Compact(all); len(all) != len(given)*each || all[0] != 2 {
		t.Errorf("%d numbers from %d", len(all), all[0])
	}
}
