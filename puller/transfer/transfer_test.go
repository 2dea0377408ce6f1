package transfer_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const image = "registry.test/good:v1"

// engine has an image once it was pulled. Of its first pulls, fails of them fail.
type engine struct {
	engines.Engine
	fails   int
	gate    chan struct{} // pulls wait for it, unless it is nil
	unpacks bool          // they have downloaded everything then
	mu      sync.Mutex
	pulls   int
	present bool
}

func (e *engine) Info(context.Context) (puller.EngineInfo, error) {
	return puller.EngineInfo{Platform: "linux/amd64"}, nil
}

func (e *engine) Inspect(context.Context, string, string) (puller.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.present {
		return puller.Image{}, puller.Errorf(puller.ErrNotFound, "no such image")
	}
	return puller.Image{ID: "sha256:1", RepoTags: []string{image}, Content: puller.ContentWhole, Platform: "linux/amd64"}, nil
}

func (e *engine) Pull(ctx context.Context, _ puller.Pull, each func(pullstream.Message)) error {
	e.mu.Lock()
	e.pulls++
	failing := e.pulls <= e.fails
	e.mu.Unlock()
	for i := range 3 {
		for _, current := range []int64{10, 100} {
			each(pullstream.Message{ID: fmt.Sprintf("layer%d", i), Status: "Downloading", Detail: pullstream.Detail{Current: current, Total: 100}})
		}
	}
	for i := 0; e.unpacks && i < 3; i++ {
		each(pullstream.Message{ID: fmt.Sprintf("layer%d", i), Status: "Download complete"})
	}
	each(pullstream.Message{Status: "a notice for readers"})
	if e.gate != nil {
		select {
		case <-e.gate:
		case <-ctx.Done():
			return puller.Errorf(puller.ErrCanceled, "canceled")
		}
	}
	if failing {
		return puller.Errorf(puller.ErrTruncated, "cut")
	}
	e.mu.Lock()
	e.present = true
	e.mu.Unlock()
	each(pullstream.Message{Status: "Status: Downloaded newer image for " + image})
	return nil
}

// subscriber notes what it is told. In every call it calls the transfer, which holds
// no lock meanwhile.
type subscriber struct {
	t       *testing.T
	s       *transfer.Transfers
	member  *transfer.Member
	request transfer.Request
	joins   int // others that it has join

	mu     sync.Mutex
	phases []transfer.Phase
	layers map[string]uint64 // the last number of each
	ended  int
	result puller.Result
	err    error
	others []*subscriber
	over   chan struct{} // closed by the first Done

	notices []string
}

func join(t *testing.T, s *transfer.Transfers, r transfer.Request, joins int) *subscriber {
	sub := &subscriber{t: t, s: s, request: r, joins: joins, layers: map[string]uint64{}, over: make(chan struct{})}
	sub.member = transfer.NewMember(r, sub)
	s.Join(sub.member)
	return sub
}

// call has the subscriber call back.
func (s *subscriber) call() {
	s.member.Progress()
	s.member.LastError()
	s.s.Missing(s.request.Key)
	s.mu.Lock()
	again := s.joins > 0
	s.joins--
	s.mu.Unlock()
	if again {
		other := join(s.t, s.s, s.request, 0)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.others = append(s.others, other)
	}
}

func (s *subscriber) Phase(p transfer.Phase) {
	s.mu.Lock()
	s.phases = append(s.phases, p)
	s.mu.Unlock()
	s.call()
}

func (s *subscriber) Layer(number uint64, l pullstream.Layer) {
	s.mu.Lock()
	s.layers[l.ID] = max(s.layers[l.ID], number)
	s.mu.Unlock()
	s.call()
}

func (s *subscriber) Notice(message string, _ time.Duration) {
	s.mu.Lock()
	s.notices = append(s.notices, message)
	s.mu.Unlock()
	s.call()
}

func (s *subscriber) Done(result puller.Result, err error) {
	s.mu.Lock()
	if s.ended++; s.ended == 1 {
		close(s.over)
	}
	s.result, s.err = result, err
	s.mu.Unlock()
	s.call()
	s.member.Leave()
}

// latest returns the phases in the order of their numbers.
func (s *subscriber) latest() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last uint64
	for _, p := range s.phases {
		if p.Number < last {
			continue // a subscriber drops it
		}
		last = p.Number
		if name := fmt.Sprint(p.State, "/", p.Phase, "/", p.Attempt); len(all) == 0 || all[len(all)-1] != name {
			all = append(all, name)
		}
	}
	return all
}

// withTransfers runs a test in a bubble of its own time.
func withTransfers(t *testing.T, e *engine, test func(t *testing.T, s *transfer.Transfers)) {
	withAccelerator(t, e, nil, test)
}

func withAccelerator(t *testing.T, e *engine, a engines.Accelerator, test func(t *testing.T, s *transfer.Transfers)) {
	withOptions(t, e, func(o *transfer.Options) { o.Accelerator = a }, test)
}

func withOptions(t *testing.T, e *engine, set func(*transfer.Options), test func(t *testing.T, s *transfer.Transfers)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		log := logrus.New()
		log.SetOutput(io.Discard)
		numbers := new(stream.Sequence)
		o := transfer.Options{
			Engine: e, Prover: proof.New(e, nil), Store: storetest.New(), Concurrency: 2, Log: log,
			Numbers: numbers, Events: stream.NewEventLog(numbers, 1<<20), Go: func(f func()) { work.Go(f) },
		}
		set(&o)
		s, err := transfer.New(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
		cancel()
		work.Wait()
	})
}

func request(policy puller.Policy, retries int) transfer.Request {
	return transfer.Request{
		Key: transfer.Key{Image: image}, Policy: policy, Retries: retries, Rank: 1, Turn: 1, Batched: true,
		About: &stream.About{Job: "01J", Kind: "pull", Image: image},
	}
}

func TestSubscriber(t *testing.T) {
	t.Run("phases", func(t *testing.T) {
		withTransfers(t, &engine{fails: 1}, func(t *testing.T, s *transfer.Transfers) {
			sub := join(t, s, request(puller.PolicyAlways, 3), 0)
			<-time.After(time.Minute)
			synctest.Wait()
			want := []string{
				"queued//0", "active/resolving/1", "active/pulling/1", "active/resolving/1",
				"active/resolving/2", "active/pulling/2", "active/verifying/2",
			}
			if diff := cmp.Diff(want, sub.latest()); diff != "" || sub.ended != 1 || sub.err != nil {
				t.Errorf("it ended %d times with %v (-want +got):\n%s", sub.ended, sub.err, diff)
			}
		})
	})
	t.Run("calls_back", func(t *testing.T) {
		e := &engine{gate: make(chan struct{})}
		withTransfers(t, e, func(t *testing.T, s *transfer.Transfers) {
			e.gate = make(chan struct{}) // of the bubble
			sub := join(t, s, request(puller.PolicyAlways, 0), 8)
			synctest.Wait()
			close(e.gate)
			synctest.Wait()
			all := append([]*subscriber{sub}, sub.others...)
			for i, one := range all {
				if one.ended != 1 || one.err != nil || len(one.layers) != 3 {
					t.Errorf("subscriber %d of %d ended %d times with %v, and knows %d layers", i, len(all), one.ended, one.err, len(one.layers))
				}
			}
			if len(all) != 9 || e.pulls != 1 {
				t.Errorf("%d subscribers had %d pulls", len(all), e.pulls)
			}
		})
	})
	t.Run("leaves", func(t *testing.T) {
		e := &engine{}
		withTransfers(t, e, func(t *testing.T, s *transfer.Transfers) {
			e.gate = make(chan struct{})
			one, two := join(t, s, request(puller.PolicyAlways, 0), 0), join(t, s, request(puller.PolicyAlways, 0), 0)
			synctest.Wait()
			one.member.Leave()
			one.member.Leave()
			close(e.gate)
			synctest.Wait()
			if one.ended != 0 || two.ended != 1 || two.err != nil {
				t.Errorf("the one that left ended %d times, the other %d times with %v", one.ended, two.ended, two.err)
			}
		})
	})
	t.Run("last_leaves", func(t *testing.T) {
		e := &engine{}
		withTransfers(t, e, func(t *testing.T, s *transfer.Transfers) {
			e.gate = make(chan struct{}) // stays shut
			sub := join(t, s, request(puller.PolicyAlways, 3), 0)
			synctest.Wait()
			sub.member.Leave()
			synctest.Wait()
			if sub.ended != 0 || s.Missing(sub.request.Key) {
				t.Errorf("it ended %d times; the transfer is still there: %t", sub.ended, s.Missing(sub.request.Key))
			}
			// Another one begins anew.
			next := join(t, s, request(puller.PolicyAlways, 0), 0)
			close(e.gate)
			synctest.Wait()
			if next.ended != 1 || next.err != nil || e.pulls != 2 {
				t.Errorf("the next one ended %d times with %v after %d pulls", next.ended, next.err, e.pulls)
			}
		})
	})
}

// A transfer whose engine only unpacks lets the next one begin. There are two slots.
func TestSlot(t *testing.T) {
	for name, c := range map[string]struct {
		unpacks bool
		pulls   int
	}{"downloads": {false, 2}, "unpacks": {true, 4}} {
		t.Run(name, func(t *testing.T) {
			e := &engine{unpacks: c.unpacks, gate: make(chan struct{})}
			withTransfers(t, e, func(t *testing.T, s *transfer.Transfers) {
				e.gate = make(chan struct{}) // of the bubble
				var all []*subscriber
				for i := range 6 {
					r := request(puller.PolicyAlways, 0)
					r.Image = fmt.Sprintf("registry.test/image%d:v1", i)
					all = append(all, join(t, s, r, 0))
				}
				synctest.Wait()
				if e.pulls != c.pulls {
					t.Errorf("%d pulls at a time, want %d", e.pulls, c.pulls)
				}
				close(e.gate)
				for _, sub := range all {
					<-sub.over
				}
				if e.pulls != len(all) {
					t.Errorf("%d pulls in all", e.pulls)
				}
			})
		})
	}
}
