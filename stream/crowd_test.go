package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/stream"
)

// pipes are outlets by their descriptors.
type pipes []*pipe

func (all pipes) tryWrite(descriptor int, p []byte) (int, error) { return all[descriptor].TryWrite(p) }

// pipe is an outlet that takes so many bytes and then no more, until it is
// drained.
type pipe struct {
	mu    sync.Mutex
	room  int
	got   bytes.Buffer
	fault error
	tries int
}

func (p *pipe) TryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.fault != nil {
		return 0, p.fault
	}
	n := min(len(b), p.room)
	p.room -= n
	p.got.Write(b[:n])
	return n, nil
}

func (p *pipe) write(b []byte, room int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got.Write(b)
	p.room = room
}

// text returns what was written, without the chunks' own lines.
func (p *pipe) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for line := range strings.SplitSeq(p.got.String(), "\r\n") {
		if strings.HasPrefix(line, "{") {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.Join(all, "\n")
}

func heartbeat() *stream.Batch {
	return stream.NewBatch(stream.NewFrame(0, "heartbeat", event{Type: "heartbeat"}))
}

// reads does what the handler of one does, until the end; slow is called for what the
// outlet had no room for.
func (all pipes) reads(t *testing.T, sub *stream.Subscription, i int, slow func(rest []byte)) error {
	p := all[i]
	for {
		rest, err := sub.Join(t.Context(), 15*time.Second, stream.NDJSON, "job", stream.Outlet{Descriptor: i, TryWrite: all.tryWrite}, heartbeat)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			slow(rest)
		}
		b, err := sub.Next(t.Context(), 15*time.Second)
		if err != nil {
			return err
		}
		if b == nil {
			b = heartbeat()
		}
		p.write(b.Chunk(stream.NDJSON, "job"), 1<<20)
	}
}

func TestACrowdIsToldByOneOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		pipes := make(pipes, 20)
		var all sync.WaitGroup
		for i := range pipes {
			pipes[i] = &pipe{room: 1 << 20}
			_, sub := s.topic.Subscribe()
			all.Go(func() {
				if err := pipes.reads(t, sub, i, nil); err != io.EOF {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for i := range 50 {
			s.post(fmt.Sprint("layer", i%3), fmt.Sprint(i))
			<-time.After(30 * time.Millisecond)
			if i%10 == 0 {
				s.publish("notice", fmt.Sprint(i))
			}
		}
		<-time.After(16 * time.Second)
		s.end()
		all.Wait()
		want := pipes[0].text()
		if n := strings.Count(want, "\n") + 1; n < 30 || !strings.Contains(want, "heartbeat") || !strings.HasSuffix(want, `"word":"end"}`) {
			t.Errorf("a reader is told %d events:\n%s", n, want)
		}
		for i, p := range pipes {
			if p.text() != want {
				t.Errorf("reader %d is told\n%s\nthe first\n%s", i, p.text(), want)
			}
			if p.tries == 0 {
				t.Errorf("reader %d was not in the crowd", i)
			}
		}
	})
}

// Who takes less than there is, in the middle of a chunk too, goes on alone
// where it was and comes back; the others are told as if it were not there. Who
// leads may be the one.
func TestWhoIsTooSlowForACrowdGoesOnAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		var all sync.WaitGroup
		pipes := make(pipes, 10)
		var falls atomic.Int32
		for i := range 10 {
			p := &pipe{room: 1 << 20}
			if i%3 == 0 { // the first leads
				p.room = 150 + 37*i
			}
			pipes[i] = p
			_, sub := s.topic.Subscribe()
			all.Go(func() {
				err := pipes.reads(t, sub, i, func(rest []byte) {
					falls.Add(1)
					<-time.After(time.Duration(i+1) * 100 * time.Millisecond)
					p.write(rest, 300)
				})
				if err != io.EOF {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for i := range 60 {
			s.publish("notice", fmt.Sprint(i))
			<-time.After(17 * time.Millisecond)
		}
		s.end()
		all.Wait()
		want := pipes[1].text()
		if n := strings.Count(want, "\n") + 1; n != 61 {
			t.Errorf("a quick reader is told %d events:\n%s", n, want)
		}
		for i, p := range pipes {
			if p.text() != want {
				t.Errorf("reader %d is told\n%s", i, p.text())
			}
		}
		if falls.Load() != 4 {
			t.Errorf("%d times was there one too slow", falls.Load())
		}
	})
}

func TestWhoLeavesACrowdDoesNotTakeItAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		gone := errors.New("gone")
		var all sync.WaitGroup
		pipes := make(pipes, 6)
		for i := range 6 {
			p := &pipe{room: 1 << 20}
			pipes[i] = p
			_, sub := s.topic.Subscribe()
			all.Go(func() {
				if err := pipes.reads(t, sub, i, nil); i < 3 && err != gone || i >= 3 && err != io.EOF {
					t.Errorf("reader %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		for i := range 10 {
			if i%2 == 1 && i < 6 {
				p := pipes[i/2] // the first leads
				p.mu.Lock()
				p.fault = gone
				p.mu.Unlock()
			}
			s.publish("notice", fmt.Sprint(i))
			synctest.Wait()
		}
		s.end()
		all.Wait()
		for i, p := range pipes[3:] {
			if n := strings.Count(p.text(), "\n") + 1; n != 11 {
				t.Errorf("reader %d is told %d events", i, n)
			}
		}
	})
}

// Readers of all kinds come and go while there is much to tell.
func TestACrowdUnderLoad(t *testing.T) {
	s := newStage()
	const frames, readers = 400, 30
	pipes := make(pipes, readers)
	for i := range pipes {
		pipes[i] = &pipe{room: 1 << 30}
	}
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			p := pipes[i]
			if i%3 == 0 {
				p.write(nil, 1<<10)
			}
			got, sub := s.topic.Resume(0)
			p.write(stream.NewBatch(got...).Chunk(stream.NDJSON, "job"), p.room)
			if err := pipes.reads(t, sub, i, func(rest []byte) { p.write(rest, 1<<10) }); err != io.EOF {
				t.Error(err)
			}
			next := 0
			for line := range strings.SplitSeq(p.text(), "\n") {
				if strings.Contains(line, fmt.Sprintf(`"type":"notice","job":"","word":"%d"`, next)) || strings.Contains(line, fmt.Sprintf(`"type":"notice","job":"job","word":"%d"`, next)) {
					next++
				}
			}
			if next != frames {
				t.Errorf("reader %d was told %d of %d in order", i, next, frames)
			}
		})
	}
	for i := range frames {
		s.publish("notice", fmt.Sprint(i))
		s.post(fmt.Sprint("layer", i%4), fmt.Sprint(i))
	}
	s.end()
	all.Wait()
}

// Whoever leads a crowd may fail in what is not its own.
func TestALeaderThatPanicsWakesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		all := pipes{{room: 1 << 20}, {room: 1 << 20}}
		_, leads := s.topic.Subscribe()
		_, follows := s.topic.Subscribe()
		go func() {
			defer func() { recover() }()
			leads.Join(t.Context(), time.Minute, stream.NDJSON, "job", stream.Outlet{Descriptor: 0, TryWrite: all.tryWrite}, func() *stream.Batch { panic("no heartbeat") })
		}()
		synctest.Wait()
		woken := make(chan error)
		go func() { woken <- all.reads(t, follows, 1, nil) }()
		synctest.Wait()
		if err := <-woken; err == nil || err == io.EOF {
			t.Errorf("the other one ends with %v", err)
		}
	})
}
