package stream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/outputlog"
)

// logged is a testTopic whose topic has an output log.
type logged struct {
	*testTopic
	log  *outputlog.Log
	path string
}

func missed() stream.Frame {
	return stream.NewFrame(0, "notice", event{Type: "notice", Word: "missed"})
}

func newLogged(t *testing.T, limit int64) *logged {
	t.Helper()
	path := filepath.Join(t.TempDir(), "output")
	log, err := outputlog.Create(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	s := &logged{newTestTopic(), log, path}
	s.topic.SetOutput(log, missed)
	return s
}

func (s *logged) append(word string) error {
	return s.topic.AppendOutput(outputlog.Offsets{s.seq.Last() + 1, 7}, encoder("log", word))
}

func (s *logged) mustAppend(t *testing.T, words ...string) {
	t.Helper()
	for _, word := range words {
		if err := s.append(word); err != nil {
			t.Fatal(err)
		}
	}
}

// numberedWords is words for frames of which some stand for a gap. It fails where numbers
// do not grow.
func numberedWords(t *testing.T, after uint64, frames []stream.Frame) []string {
	t.Helper()
	var all []string
	for _, f := range frames {
		var e event
		if err := f.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Seq != f.Seq || e.Type != f.Type || (f.Seq == 0) != (f.Type == "layer" || e.Word == "missed") {
			t.Errorf("frame %d of type %q has %+v", f.Seq, f.Type, e)
		}
		if f.Seq != 0 {
			if f.Seq <= after {
				t.Errorf("frame %d came after %d", f.Seq, after)
			}
			after = f.Seq
		}
		all = append(all, e.Word)
	}
	return all
}

// everything returns what there is for a reader, from the snapshot on, and
// whether that was the end. wait is 0, or a LayerInterval for layers that were just
// posted: in a synctest bubble.
func everything(t *testing.T, wait time.Duration, snapshot []stream.Frame, sub *stream.Subscription) ([]stream.Frame, bool) {
	t.Helper()
	all := snapshot
	for {
		frames, err := next(t.Context(), sub, wait)
		if err == io.EOF {
			return all, true
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			return all, false
		}
		all = append(all, frames...)
	}
}

func (s *logged) read(t *testing.T, snapshot []stream.Frame, sub *stream.Subscription) []string {
	t.Helper()
	return s.readFor(t, 0, snapshot, sub)
}

// readAll is read for layers too, in a synctest bubble.
func (s *logged) readAll(t *testing.T, sub *stream.Subscription) []string {
	t.Helper()
	return s.readFor(t, 2*stream.LayerInterval, nil, sub)
}

func (s *logged) readFor(t *testing.T, wait time.Duration, snapshot []stream.Frame, sub *stream.Subscription) []string {
	t.Helper()
	frames, ended := everything(t, wait, snapshot, sub)
	got := numberedWords(t, 0, frames)
	if ended {
		got = append(got, "EOF")
	}
	return got
}

func checkWords(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %.400q, want %.400q", what, got, want)
	}
}

// runScript is a run's life; frame i has number i+1.
var runScript = []struct{ typ, word string }{
	{"state", "queued"}, {"layer", "a 1"}, {"state", "pulling"}, {"layer", "b 1"}, {"notice", "careful"}, {"state", "running"},
	{"log", "one"}, {"log", "two"}, {"notice", "again"}, {"layer", "c 1"}, {"log", "three"}, {"state", "removing"}, {"log", "four"},
	{"layer", "d 1"}, {"log", "five"}, {"result", "end"},
}

func (s *logged) act(t *testing.T, i int) {
	t.Helper()
	switch step := runScript[i]; step.typ {
	case "layer":
		id, word, _ := strings.Cut(step.word, " ")
		s.post(id, word)
	case "log":
		s.mustAppend(t, step.word)
	case "result":
		s.end()
	default:
		s.publish(step.typ, step.word)
	}
}

func TestOutputComesInOrder(t *testing.T) {
	wordsOf := func(from, to int, numbered bool) []string {
		var all []string
		for i := from; i < to; i++ {
			if !numbered || runScript[i].typ != "layer" {
				all = append(all, runScript[i].word)
			}
		}
		return all
	}
	for at := 0; at <= len(runScript); at++ {
		synctest.Test(t, func(t *testing.T) {
			s := newLogged(t, 1<<20)
			for i := range at {
				<-time.After(stream.LayerInterval) // so that a layer comes out when it is posted
				s.act(t, i)
			}
			// A reader that subscribes to a run with output gets all from the state
			// before the output on; the layers before that are of no order.
			snapshot, quick := s.topic.Subscribe()
			_, slow := s.topic.Subscribe()
			if at > 6 {
				checkWords(t, fmt.Sprintf("after %d steps the snapshot", at), numberedWords(t, 0, snapshot), []string{"a 1", "b 1", "running"})
				got := s.readAll(t, quick)
				want := wordsOf(6, at, false)
				if at == len(runScript) {
					want = append(want, "EOF")
				}
				checkWords(t, fmt.Sprintf("what follows after %d steps", at), got, want)
			}
			var resumed []*stream.Subscription
			var first [][]stream.Frame
			for seq := 0; seq <= at; seq++ {
				frames, sub := s.topic.Resume(uint64(seq))
				first, resumed = append(first, frames), append(resumed, sub)
			}
			for i := at; i < len(runScript); i++ {
				<-time.After(stream.LayerInterval)
				s.act(t, i)
				checkWords(t, fmt.Sprintf("a quick reader of step %d", i), s.readAll(t, quick)[:1], []string{runScript[i].word})
			}
			checkWords(t, fmt.Sprintf("a slow reader after %d steps", at), s.readAll(t, slow), append(wordsOf(min(at, 6), len(runScript), false), "EOF"))
			for seq, sub := range resumed {
				frames, _ := everything(t, 2*stream.LayerInterval, first[seq], sub)
				numbered := slices.DeleteFunc(frames, func(f stream.Frame) bool { return f.Seq == 0 })
				checkWords(t, fmt.Sprintf("resumed from %d after %d steps", seq, at), numberedWords(t, uint64(seq), numbered), wordsOf(seq, len(runScript), true))
			}
		})
	}
}

func TestOutputWakesReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLogged(t, 1<<20)
		_, sub := s.topic.Subscribe()
		go func() {
			<-time.After(time.Second)
			s.append("one")
			<-time.After(time.Second)
			s.end()
		}()
		start := time.Now()
		for _, want := range []string{"one", "end"} {
			frames, err := next(t.Context(), sub, time.Minute)
			checkWords(t, "read", numberedWords(t, 0, frames), []string{want})
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := next(t.Context(), sub, time.Minute); err != io.EOF || time.Since(start) != 2*time.Second {
			t.Errorf("the end is %v after %v", err, time.Since(start))
		}
	})
}

func TestNothingOvertakesOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLogged(t, 1<<20)
		s.publish("state", "running")
		_, early := s.topic.Subscribe()
		numbered, write := make(chan bool), make(chan bool)
		go s.topic.AppendOutput(outputlog.Offsets{}, func(seq uint64) stream.Frame {
			close(numbered)
			<-write
			return encoder("log", "one")(seq)
		})
		<-numbered
		s.publish("notice", "after it") // waits for no disk
		s.post("a", "1")
		snapshot, late := s.topic.Subscribe()
		checkWords(t, "the snapshot", numberedWords(t, 0, snapshot), []string{"running"})
		missing, resumed := s.topic.Resume(1)
		subs := map[string]*stream.Subscription{"early": early, "late": late, "resumed": resumed}
		s.end()
		for name, sub := range subs {
			if frames, err := next(t.Context(), sub, time.Second); len(frames)+len(missing) > 0 || err != nil {
				t.Errorf("%s: got %q, %v before it was printed", name, numberedWords(t, 0, frames), err)
			}
		}
		close(write)
		synctest.Wait()
		for name, sub := range subs {
			checkWords(t, name, s.read(t, nil, sub), []string{"one", "after it", "a 1", "end", "EOF"})
		}
	})
}

func TestNoOutputAfterTheEnd(t *testing.T) {
	s := newLogged(t, 1<<20)
	s.mustAppend(t, "one")
	last := encoder("result", "end")(s.seq.Next())
	s.mustAppend(t, "above the last")
	s.topic.End(last)
	s.mustAppend(t, "after it")
	s.lastIsTheEnd(t)

	s = newLogged(t, 40_000)
	s.mustAppend(t, "one")
	last = encoder("result", "end")(s.seq.Next())
	s.append(big(0, 10_000)) // is lost
	s.topic.End(last)
	s.lastIsTheEnd(t)
}

func (s *logged) lastIsTheEnd(t *testing.T) {
	t.Helper()
	snapshot, sub := s.topic.Subscribe()
	checkWords(t, "subscribed", s.read(t, snapshot, sub), []string{"one", "end", "EOF"})
	snapshot, sub = s.topic.Resume(1)
	checkWords(t, "resumed", s.read(t, snapshot, sub), []string{"end", "EOF"})
}

func TestOutputOfATopicWithoutALastFrame(t *testing.T) {
	s := newLogged(t, 1<<20)
	s.publish("state", "running")
	s.mustAppend(t, "one", "two")
	s.topic.End()
	snapshot, sub := s.topic.Subscribe()
	checkWords(t, "subscribed", s.read(t, snapshot, sub), []string{"running", "one", "two", "EOF"})
}

func TestAppendOutputWithoutALog(t *testing.T) {
	s := newTestTopic()
	if err := s.topic.AppendOutput(outputlog.Offsets{}, encoder("log", "x")); err == nil {
		t.Error("it did not fail")
	}
}

// big returns a word of about n bytes that begins with i.
func big(i, n int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", n)) }

func TestDroppedOutputIsMissedOnce(t *testing.T) {
	const limit = 64 << 10
	s := newLogged(t, limit)
	s.publish("state", "running")
	_, stopped := s.topic.Subscribe()
	_, behind := s.topic.Subscribe()
	_, keeps := s.topic.Subscribe()
	s.mustAppend(t, big(0, 1000))
	s.read(t, nil, behind)
	kept := 0
	for i := 1; i < 500; i++ {
		s.mustAppend(t, big(i, 1000))
		if got := s.read(t, nil, keeps); !strings.HasPrefix(got[len(got)-1], fmt.Sprint(i, " ")) || slices.Contains(got, "missed") {
			t.Fatalf("a reader that keeps up got %.100q at %d", got, i)
		}
		if size := s.diskUse(t); size > limit {
			t.Fatalf("the log has %d bytes", size)
		}
	}
	s.publish("notice", "late")
	s.end()
	fresh, sub := s.topic.Subscribe()
	since, from2 := s.topic.Resume(2)
	for name, got := range map[string][]string{
		"stopped": s.read(t, nil, stopped), "behind": s.read(t, nil, behind),
		"fresh": s.read(t, fresh, sub)[1:], "resumed": s.read(t, since, from2),
	} {
		if got[0] != "missed" || got[1] == "missed" {
			t.Fatalf("%s: it begins with %.20q", name, got[:3])
		}
		var at int
		fmt.Sscan(got[1], &at)
		kept = 500 - at
		for _, word := range got[1 : 1+kept] {
			if !strings.HasPrefix(word, fmt.Sprint(at, " ")) {
				t.Fatalf("%s: got %.20q for %d", name, word, at)
			}
			at++
		}
		checkWords(t, name, got[1+kept:], []string{"late", "end", "EOF"})
	}
	if kept < 40 || kept > 64 {
		t.Errorf("%d frames are kept", kept)
	}
	// A reader of the last that was dropped has missed nothing. The state is 1,
	// and word i has number i+2.
	missing, sub := s.topic.Resume(uint64(500 - kept - 1 + 2))
	if got := s.read(t, missing, sub); len(got) != kept+3 || got[0] == "missed" {
		t.Errorf("resumed at the edge: %d, %.20q", len(got), got[0])
	}
	missing, sub = s.topic.Resume(uint64(500 - kept - 2 + 2))
	if got := s.read(t, missing, sub); len(got) != kept+4 || got[0] != "missed" {
		t.Errorf("resumed before the edge: %d, %.20q", len(got), got[0])
	}
}

func (s *logged) diskUse(t *testing.T) (sum int64) {
	t.Helper()
	files, _ := filepath.Glob(s.path + ".*")
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

func TestOutputDroppedWhileItIsRead(t *testing.T) {
	s := newLogged(t, 4<<20)
	const each, n = 200_000, 40
	for i := range 10 {
		s.mustAppend(t, big(i, each))
	}
	_, sub := s.topic.Resume(0)
	frames, err := next(t.Context(), sub, 0)
	if err != nil || len(frames) != 1 { // a batch ends in a segment
		t.Fatal(len(frames), err)
	}
	for i := 10; i < n; i++ {
		s.mustAppend(t, big(i, each))
	}
	s.end()
	got := s.read(t, frames, sub)
	if got[0][:2] != "0 " || got[1] != "missed" || slices.Index(got[2:], "missed") >= 0 || len(got) < 15 {
		t.Errorf("got %.20q", got)
	}
}

func TestOutputBatchesAreBounded(t *testing.T) {
	long := newLogged(t, 16<<20)
	for i := range 300 {
		long.mustAppend(t, big(i, 10_000))
		if i%10 == 0 {
			long.publish("notice", fmt.Sprint("notice ", i))
		}
	}
	long.mustAppend(t, big(300, 900_000)) // more than a batch
	long.end()
	long.checkBatches(t, 332, 12)
	_, sub := long.topic.Resume(325) // far into a segment
	if got := long.read(t, nil, sub); len(got) != 332-325+1 || got[len(got)-1] != "EOF" {
		t.Errorf("far in: got %.20q", got)
	}

	short := newLogged(t, 4*300<<10) // a segment is a batch and some more
	for i := range 100 {
		short.mustAppend(t, big(i, 10_000))
	}
	short.end()
	short.checkBatches(t, 101, 4)
}

func (s *logged) checkBatches(t *testing.T, total, least int) {
	t.Helper()
	_, sub := s.topic.Resume(0)
	var all []stream.Frame
	for batches := 0; ; batches++ {
		frames, err := next(t.Context(), sub, 0)
		if err == io.EOF {
			if batches < least {
				t.Errorf("%d batches", batches)
			}
			break
		}
		size := 0
		for _, f := range frames {
			size += len(stream.NDJSON.Append(nil, &f, ""))
		}
		if err != nil || len(frames) == 0 || size > 256<<10+5000 && len(frames) > 2 {
			t.Fatalf("a batch of %d frames and %d bytes, %v", len(frames), size, err)
		}
		all = append(all, frames...)
	}
	if got := numberedWords(t, 0, all); len(got) != total {
		t.Errorf("got %d frames", len(got))
	}
}

func TestOutputThatDoesNotFitIsMissed(t *testing.T) {
	s := newLogged(t, 40_000)
	_, sub := s.topic.Subscribe()
	s.mustAppend(t, "one")
	for range 3 {
		if err := s.append(big(0, 10_000)); err == nil {
			t.Error("it fits")
		}
	}
	s.publish("notice", "n")
	s.mustAppend(t, "two")
	if err := s.append(strings.Repeat("\x01", 1<<20)); err == nil {
		t.Error("it fits")
	}
	s.end()
	want := []string{"one", "missed", "n", "two", "missed", "end", "EOF"}
	checkWords(t, "a reader", s.read(t, nil, sub), want)
	snapshot, sub := s.topic.Resume(0)
	checkWords(t, "a late reader", s.read(t, snapshot, sub), want)
	snapshot, sub = s.topic.Resume(4)
	checkWords(t, "one that had read the lost", s.read(t, snapshot, sub), want[2:])

	// It is known later too, and where to go on: the lost had the numbers 2, 3,
	// 4 and 7.
	for range 2 {
		if mark := s.log.Offsets(); mark != (outputlog.Offsets{6, 7}) {
			t.Errorf("the mark is %v", mark)
		}
		if err := s.log.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if s.log, err = outputlog.Open(s.path, 40_000); err != nil {
			t.Fatal(err)
		}
	}
	s.log.Close()
	log, err := outputlog.OpenReadOnly(s.path)
	if err != nil {
		t.Fatal(err)
	}
	later := stream.NewTopic(s.seq, encoder("notice", "n")(5))
	later.SetOutput(log, missed)
	later.End(encoder("result", "end")(8))
	snapshot, sub = later.Resume(0)
	checkWords(t, "later", s.read(t, snapshot, sub), want)
}

func TestOutputWithoutAnyEntryIsMissed(t *testing.T) {
	s := newLogged(t, 4000)
	s.publish("state", "running")
	s.append(big(0, 2000))
	s.publish("state", "removing")
	s.end()
	snapshot, sub := s.topic.Subscribe()
	checkWords(t, "a reader", s.read(t, snapshot, sub), []string{"running", "missed", "removing", "end", "EOF"})
}

func TestOutputOfATruncatedFileIsMissed(t *testing.T) {
	s := newLogged(t, 1<<20)
	for i := range 30 {
		s.mustAppend(t, big(i, 300))
	}
	_, sub := s.topic.Resume(0)
	for size := int64(3000); size >= 0; size -= 10 {
		if err := os.Truncate(s.path+".0", size); err != nil {
			t.Fatal(err)
		}
		got, sub := s.topic.Resume(0)
		if got := s.read(t, got, sub); got[len(got)-1] != "missed" || len(got) > 9 {
			t.Fatalf("got %.20q", got)
		}
	}
	s.mustAppend(t, "new")
	s.end()
	checkWords(t, "goes on", s.read(t, nil, sub), []string{"missed", "end", "EOF"})
}

func TestOutputFrameOfAMebibyte(t *testing.T) {
	s := newLogged(t, 16<<20)
	long := strings.Repeat("x", 1<<20-100)
	s.mustAppend(t, long)
	if err := s.append(long + long[:100]); err == nil {
		t.Error("it fits")
	}
	s.mustAppend(t, "three")
	snapshot, sub := s.topic.Resume(0)
	checkWords(t, "a reader", s.read(t, snapshot, sub), []string{long, "missed", "three"})
}

// It limits the size of files for its whole process. So that process is one of its
// own: go test has a process write a log of what its tests open, too.
func TestOutputOnAFullDisk(t *testing.T) {
	const alone = "TOWLINE_TEST_FULL_DISK"
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOutputOnAFullDisk$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	s := newLogged(t, 1<<20)
	_, live := s.topic.Subscribe()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	s.mustAppend(t, "one")
	size := s.diskUse(t)
	syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(size) + 200, Max: before.Max})
	first, second := s.append(big(2, 1000)), s.append(big(3, 1000))
	small := s.append("four")
	size = s.diskUse(t)
	checkWords(t, "meanwhile", s.read(t, nil, live), []string{"one", "missed", "four"})
	third := s.append(big(5, 1000))
	cut := s.diskUse(t)
	checkWords(t, "meanwhile", s.read(t, nil, live), []string{"missed"})
	fourth := s.append(big(6, 1000))
	checkWords(t, "missing more", s.read(t, nil, live), nil)
	syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
	for _, err := range []error{first, second, third, fourth} {
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("a write that does not fit gave %v", err)
		}
	}
	if small != nil || cut != size {
		t.Errorf("a small one gave %v; the file has %d bytes, it had %d", small, cut, size)
	}
	s.mustAppend(t, "six")
	s.end()
	checkWords(t, "then", s.read(t, nil, live), []string{"six", "end", "EOF"})
	snapshot, sub := s.topic.Resume(0)
	checkWords(t, "a late reader", s.read(t, snapshot, sub), []string{"one", "missed", "four", "missed", "six", "end", "EOF"})
}

func TestOutputSegmentIsBegunLater(t *testing.T) {
	s := newLogged(t, 40_000)
	dir := filepath.Dir(s.path)
	for i := range 8 {
		s.mustAppend(t, big(i, 1100))
	}
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := s.append(big(8, 1100)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	s.mustAppend(t, "small") // there is room for it where it was
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	for i := 10; i < 20; i++ {
		s.mustAppend(t, big(i, 1000))
	}
	s.end()
	snapshot, sub := s.topic.Resume(0)
	got := s.read(t, snapshot, sub)
	if len(got) != 8+1+1+10+2 || got[8] != "missed" || got[9] != "small" {
		t.Errorf("got %.20q", got)
	}
}

// copyLog copies a log's files, the one with the newest frames cut at n bytes.
func copyLog(t *testing.T, from, to, newest string, n int64) {
	t.Helper()
	files, _ := filepath.Glob(from + ".*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file == newest {
			data = data[:n]
		}
		if err := os.WriteFile(to+filepath.Ext(file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOutputLogCutAnywhere(t *testing.T) {
	s := newLogged(t, 4000)
	var words []string
	newest, sizes := "", map[string]int64{}
	for i := range 25 {
		word := big(i, 300)
		s.mustAppend(t, word)
		words = append(words, word)
		files, _ := filepath.Glob(s.path + ".*")
		for _, file := range files {
			info, _ := os.Stat(file)
			if sizes[file] != info.Size() {
				newest, sizes[file] = file, info.Size()
			}
		}
	}
	snapshot, sub := s.topic.Resume(0)
	whole := s.read(t, snapshot, sub)[1:] // without "missed"
	inNewest := -1
	for cut := sizes[newest]; cut >= 0; cut-- {
		path := filepath.Join(t.TempDir(), "copy")
		copyLog(t, s.path, path, newest, cut)
		for _, open := range []string{"read", "written"} {
			var log *outputlog.Log
			var err error
			if open == "read" {
				log, err = outputlog.OpenReadOnly(path)
			} else {
				log, err = outputlog.Open(path, 4000)
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			var seq stream.Sequence
			seq.Start(1000)
			topic := stream.NewTopic(&seq)
			topic.SetOutput(log, missed)
			snapshot, sub := topic.Resume(0)
			got := s.read(t, snapshot, sub)
			if got[0] != "missed" || !slices.Equal(got[1:], whole[:len(got)-1]) {
				t.Fatalf("cut at %d, %s: got %.20q", cut, open, got)
			}
			if cut == sizes[newest] && len(got)-1 != len(whole) {
				t.Fatalf("uncut, %s: %d of %d", open, len(got)-1, len(whole))
			}
			if cut == 0 {
				inNewest = len(whole) - len(got) + 1
			}
			if open == "read" {
				if err := topic.AppendOutput(outputlog.Offsets{}, encoder("log", "new")); !errors.Is(err, fs.ErrClosed) {
					t.Fatal(err)
				}
				continue
			}
			// The mark is that of the last frame: its number, since none but
			// them were numbered.
			last := uint64(len(words) - len(whole) + len(got) - 1)
			if log.Offsets() != (outputlog.Offsets{last, 7}) {
				t.Fatalf("cut at %d: the mark is %v, want %d", cut, log.Offsets(), last)
			}
			want := append(slices.Clip(got), "new", "newer")
			for _, word := range want[len(got):] {
				if err := topic.AppendOutput(outputlog.Offsets{}, encoder("log", word)); err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			snapshot, sub = topic.Resume(0)
			checkWords(t, fmt.Sprintf("cut at %d, went on", cut), s.read(t, snapshot, sub), want)
			missing, sub := topic.Resume(last)
			checkWords(t, fmt.Sprintf("cut at %d, from the last", cut), s.read(t, missing, sub), want[len(got):])
			if again, err := outputlog.OpenReadOnly(path); err != nil {
				t.Fatal(err)
			} else {
				topic := stream.NewTopic(&seq)
				topic.SetOutput(again, missed)
				snapshot, sub = topic.Resume(0)
				checkWords(t, fmt.Sprintf("cut at %d, read again", cut), s.read(t, snapshot, sub), want)
			}
		}
	}
	if inNewest < 1 {
		t.Errorf("the newest file had %d frames", inNewest)
	}
}

func TestDamagedOutputIsMissed(t *testing.T) {
	for _, torn := range []string{"header", "text", "gone"} {
		s := newLogged(t, 4000)
		for i := range 8 {
			s.mustAppend(t, big(i, 300))
		}
		data, err := os.ReadFile(s.path + ".0")
		if err != nil {
			t.Fatal(err)
		}
		place := map[string]string{"header": "\xfft", "text": "xxx", "gone": ""}[torn]
		if torn == "gone" {
			os.Remove(s.path + ".1")
		} else {
			data[bytes.LastIndex(data, []byte(place))] ^= 1
			os.WriteFile(s.path+".0", data, 0o600)
		}
		snapshot, sub := s.topic.Resume(0)
		got := s.read(t, snapshot, sub)
		gap := slices.Index(got, "missed")
		if gap < 1 || got[gap-1] != big(gap-1, 300) || len(got) != map[string]int{"header": 8, "text": 8, "gone": 7}[torn] || got[len(got)-1] != big(7, 300) {
			t.Errorf("%s: got %.20q", torn, got)
		}
	}
}

func TestOutputLogOpenAndRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no [*]?")
	if _, err := outputlog.Open(path, 1<<20); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := outputlog.OpenReadOnly(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := outputlog.Create(filepath.Join(path, "log"), 1<<20); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := outputlog.Remove(path); err != nil {
		t.Error(err)
	}
	os.WriteFile(path+".4", nil, 0o600)
	for range 2 {
		log, err := outputlog.Create(path, 4000)
		if err != nil {
			t.Fatal(err)
		}
		var seq stream.Sequence
		topic := stream.NewTopic(&seq)
		topic.SetOutput(log, missed)
		snapshot, sub := topic.Resume(0)
		if got, _ := everything(t, 0, snapshot, sub); len(got) > 0 {
			t.Errorf("a new log has %d frames", len(got))
		}
		for i := range 20 {
			if err := topic.AppendOutput(outputlog.Offsets{}, encoder("log", big(i, 300))); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := topic.AppendOutput(outputlog.Offsets{}, encoder("log", "late")); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	}
	// One that is reading sees that it is gone.
	log, err := outputlog.Open(path, 4000)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := outputlog.Remove(path); err != nil {
		t.Error(err)
	}
	topic := stream.NewTopic(new(stream.Sequence))
	topic.SetOutput(log, missed)
	topic.End(encoder("result", "end")(100))
	snapshot, sub := topic.Resume(0)
	frames, _ := everything(t, 0, snapshot, sub)
	checkWords(t, "removed", numberedWords(t, 0, frames), []string{"missed", "end"})
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestOutputLogHoldsOneFileOpen(t *testing.T) {
	before := openFiles(t)
	s := newLogged(t, 40_000)
	var subs []*stream.Subscription
	for i := range 200 {
		_, sub := s.topic.Resume(0)
		subs = append(subs, sub)
		s.mustAppend(t, big(i, 1000))
		next(t.Context(), sub, 0)
	}
	if n := openFiles(t) - before; n != 1 {
		t.Errorf("%d files are open", n)
	}
	s.log.Close()
	for range 50 {
		log, err := outputlog.OpenReadOnly(s.path)
		if err != nil {
			t.Fatal(err)
		}
		topic := stream.NewTopic(s.seq)
		topic.SetOutput(log, missed)
		_, sub := topic.Resume(0)
		next(t.Context(), sub, 0)
	}
	if n := openFiles(t) - before; n != 0 {
		t.Errorf("%d files are open", n)
	}
	runtime.KeepAlive(subs)
}

func TestOutputConcurrentReaders(t *testing.T) {
	const frames, readers = 3000, 8
	for _, limit := range []int64{64 << 20, 64 << 10} {
		s := newLogged(t, limit)
		s.publish("state", "running")
		var wg sync.WaitGroup
		for i := range readers {
			got, sub := s.topic.Subscribe()
			wg.Go(func() {
				var all []stream.Frame
				for turn := 0; ; turn++ {
					all = append(all, got...)
					if i%3 == 2 && turn%50 == 0 { // comes and goes
						var seq uint64
						for _, f := range all {
							seq = max(seq, f.Seq)
						}
						got, sub = s.topic.Resume(seq)
						all = append(all, got...)
					}
					var err error
					if got, err = next(t.Context(), sub, time.Minute); err == io.EOF {
						break
					} else if err != nil {
						t.Error(err)
						return
					}
				}
				numbered := slices.DeleteFunc(all, func(f stream.Frame) bool { return f.Type == "layer" })
				words := numberedWords(t, 0, numbered)
				if words[len(words)-1] != "end" {
					t.Errorf("the last is %.20q", words[len(words)-1])
				}
				// All in a row, but where some are said to be missing.
				next, notices := 0, 0
				for _, word := range words[1 : len(words)-1] {
					var at int
					if word == "missed" {
						if limit > 1<<20 {
							t.Error("missed some of what is kept")
						}
						next = -1
						continue
					}
					if strings.HasPrefix(word, "notice") {
						notices++
						continue
					}
					if fmt.Sscan(word, &at); next >= 0 && at != next {
						t.Errorf("reader %d got %.20q at %d", i, word, next)
						return
					}
					next = at + 1
				}
				if next != frames || notices != frames/10 {
					t.Errorf("reader %d got up to %d, and %d notices", i, next, notices)
				}
			})
		}
		var noticed sync.WaitGroup
		noticed.Go(func() {
			for i := range frames / 10 {
				s.publish("notice", fmt.Sprint("notice ", i))
				s.post("a", fmt.Sprint(i))
				runtime.Gosched()
			}
		})
		for i := range frames {
			s.mustAppend(t, big(i, 300))
		}
		noticed.Wait()
		s.end()
		wg.Wait()
	}
}

func TestOutputNeedsLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("200 MB")
	}
	const limit = 64 << 20
	s := newLogged(t, limit)
	_, stopped := s.topic.Subscribe()
	_, fast := s.topic.Subscribe()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := heap(), uint64(0)
	word := strings.Repeat("all work and no play ", 1500)
	var read int
	for i := range 6400 {
		s.mustAppend(t, word)
		if i%4 == 0 {
			frames, _ := everything(t, 0, nil, fast)
			for _, f := range frames {
				if f.Type != "log" {
					t.Fatal("a fast reader missed some")
				}
			}
			read += len(frames)
		}
		if i%800 == 0 {
			most = max(most, heap())
		}
	}
	if most > before+8<<20 {
		t.Errorf("it needed %d bytes of memory", most-before)
	}
	if size := s.diskUse(t); size > limit || size < limit/2 {
		t.Errorf("%d bytes are on disk", size)
	}
	frames, err := next(t.Context(), stopped, 0)
	if err != nil || len(frames) < 2 || frames[0].Type != "notice" || frames[1].Type != "log" || read < 6300 {
		t.Errorf("the stopped reader got %d frames, %v, the fast one %d", len(frames), err, read)
	}
}

// FuzzOutputLog opens a log whose files are of any bytes, and goes on with it.
func FuzzOutputLog(f *testing.F) {
	path := filepath.Join(f.TempDir(), "log")
	log, err := outputlog.Create(path, 8000)
	if err != nil {
		f.Fatal(err)
	}
	topic := stream.NewTopic(new(stream.Sequence))
	topic.SetOutput(log, missed)
	for i := range 12 {
		topic.AppendOutput(outputlog.Offsets{}, encoder("log", big(i, 300)))
	}
	log.Close()
	var seeds [][]byte
	for _, ext := range []string{".0", ".1", ".2"} {
		data, err := os.ReadFile(path + ext)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	f.Add(seeds[0], seeds[1], true)
	f.Add(seeds[1], seeds[2][:len(seeds[2])-10], false)
	f.Add([]byte{}, seeds[0][5:], true)
	f.Fuzz(func(t *testing.T, a, b []byte, mend bool) {
		path := filepath.Join(t.TempDir(), "output")
		for i, data := range [][]byte{a, b} {
			if mend {
				data = mended(data)
			}
			if err := os.WriteFile(fmt.Sprint(path, ".", i), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var sums []int
		for _, open := range []func() (*outputlog.Log, error){
			func() (*outputlog.Log, error) { return outputlog.OpenReadOnly(path) },
			func() (*outputlog.Log, error) { return outputlog.Open(path, 1<<20) },
			func() (*outputlog.Log, error) { return outputlog.OpenReadOnly(path) },
		} {
			log, err := open()
			if err != nil {
				t.Fatal(err)
			}
			var seq stream.Sequence
			seq.Start(1 << 63)
			topic := stream.NewTopic(&seq)
			topic.SetOutput(log, missed)
			_, sub := topic.Resume(0)
			frames, _ := everything(t, 0, nil, sub)
			var last uint64
			for _, f := range frames {
				if f.Seq != 0 && f.Seq <= last {
					t.Fatalf("%d came after %d", f.Seq, last)
				}
				last = max(last, f.Seq)
				stream.NDJSON.Append(nil, &f, "job")
			}
			sums = append(sums, len(frames))
			if last >= 1<<63 {
				return
			}
			printErr := topic.AppendOutput(outputlog.Offsets{}, encoder("log", "new"))
			if closed := errors.Is(printErr, fs.ErrClosed); closed != (len(sums) != 2) {
				t.Fatal(printErr)
			}
			if len(sums) == 2 {
				frames, _ := everything(t, 0, nil, sub)
				if n := len(frames); n == 0 || frames[n-1].Seq <= 1<<63 {
					t.Fatal("what was appended is not there")
				}
				log.Close()
			}
		}
		if sums[2] <= 0 {
			t.Fatal("nothing is left")
		}
	})
}

// mended gives entries the sums they should have.
func mended(data []byte) []byte {
	data = bytes.Clone(data)
	for b := data; len(b) >= 49; {
		size := 49 + int(b[48]) + int(binary.LittleEndian.Uint32(b[8:]))
		if size > len(b) {
			break
		}
		copy(b, "\xfft\x00\x01")
		b[23] &= 0x7f // no order comes near 1<<63, which those that are printed next begin at
		b[31] &= 0x7f
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:size], crc32.MakeTable(crc32.Castagnoli)))
		b = b[size:]
	}
	return data
}
