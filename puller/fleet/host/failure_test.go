package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/storetest"
)

func TestRollout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	hosts := r.hosts(6)
	r.live(c, 6)
	for _, h := range hosts {
		h.engine.set(func() { h.fail["registry.test/db"] = puller.Errorf(puller.ErrNotFound, "no such blob") })
	}
	s := images(db)
	s.Rollout = fleet.RolloutRequest{Canary: "1", Wave: "2", MaxFailures: "0", Pause: "0s"}
	got, err := r.put(c, "db", s)
	if puller.KindOf(err) != puller.ErrNotFound || got.Rollout.State != fleet.RolloutStopped || got.Rollout.Released != 1 || !strings.Contains(err.Error(), "the rollout is stopped") {
		t.Errorf("%+v, %v", got.Rollout, err)
	}
	s.Rollout.Pause = fleet.PauseManual
	s.Images = images(web).Images
	got, err = r.put(c, "web", s)
	if puller.KindOf(err) != puller.ErrConflict || got.Rollout.State != fleet.RolloutPaused || got.Rollout.Released != 1 || got.Counts[fleet.StateProven] != 1 || got.Counts[fleet.StateWaiting] != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	ctx := context.Background()
	for released := 3; released <= 5; released += 2 {
		if _, err = c.ChangeRollout(ctx, "web", fleet.ActionResume); err != nil {
			t.Fatal(err)
		}
		if got, _ = c.Wait(ctx, "web", got.Generation); got.Rollout.Released != released {
			t.Errorf("%d: %+v", released, got.Rollout)
		}
	}
	if got, err = c.ChangeRollout(ctx, "web", fleet.ActionCancel); err != nil || got.Rollout.State != fleet.RolloutCanceled {
		t.Errorf("%+v, %v", got.Rollout, err)
	}
	if _, err = c.ChangeRollout(ctx, "web", fleet.ActionResume); puller.KindOf(err) != puller.ErrConflict {
		t.Error(err)
	}
	if _, err = c.ChangeRollout(ctx, "none", fleet.ActionResume); puller.KindOf(err) != puller.ErrNotFound {
		t.Error(err)
	}
}

// TestAway has a host that is away for several generations, and NATS that restarts.
func TestAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	hosts := r.hosts(2)
	r.live(c, 2)
	if _, err := r.put(c, "web", images(web)); err != nil {
		t.Fatal(err)
	}
	hosts[1].stop()
	r.live(c, 1)
	for n := 2; n <= 4; n++ {
		r.registry.set(func() { r.registry.tags[web] = digest(fmt.Sprint("web ", n)) })
		if s, err := r.put(c, "web", images(web)); err != nil || s.Counts[fleet.StateAway] != 1 || s.Counts[fleet.StateProven] != 1 {
			t.Errorf("%+v, %v", s.Counts, err)
		}
	}
	r.stopServer()
	r.until("the controller knows", func() bool {
		_, err := c.PutSet(context.Background(), "db", images(db))
		return puller.KindOf(err) == puller.ErrOverloaded && strings.Contains(err.Error(), "NATS does not answer")
	})
	if s, err := c.Set("web"); err != nil || s.Generation != 4 {
		t.Errorf("what was known last is %+v, %v", s, err)
	}
	hosts[1].engine.set(func() {
		if hosts[1].puts != 1 {
			t.Errorf("it was put %d times", hosts[1].puts)
		}
	})
	r.begin(hosts[1]) // while NATS is away
	r.until("it goes on alone with what it had", func() (ok bool) {
		hosts[1].engine.set(func() {
			ok = hosts[1].puts == 2 && hosts[1].sets["fleet.web"].Images[0].Image == web+"@"+digest("web 1")
		})
		return ok
	})
	r.startServer()
	r.live(c, 2)
	s := r.is(c, "web", map[fleet.State]int{fleet.StateProven: 2})
	if s.Generation != 4 {
		t.Errorf("it is %+v", s)
	}
	hosts[1].engine.set(func() {
		for pinned := range hosts[1].last {
			if strings.Contains(pinned, digest("web 2")) || strings.Contains(pinned, digest("web 3")) {
				t.Errorf("it went through %s", pinned)
			}
		}
	})
}

// TestFullDisk has a NATS of others whose disk is full. It answers nothing to who writes, and
// stays so until it is started again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stopServer()
	storetest.SmallDisk(t, r.dir, "16m")
	r.startServer()
	t.Cleanup(r.stopServer) // before the disk goes
	c := r.controller("main")
	hosts := r.hosts(2)
	r.live(c, 2)
	if _, err := r.put(c, "web", images(web)); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(r.dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	err = nil
	for n := 0; err == nil && n < 100; n++ { // the last block of a file has some room
		_, err = c.PutSet(context.Background(), fmt.Sprint("db-", n), images(db))
	}
	if puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "its disk may be full") {
		t.Errorf("an apply says %v", err)
	}
	if s, err := c.Set("web"); err != nil || s.Counts[fleet.StateProven] != 2 {
		t.Errorf("what is there is %+v, %v", s, err)
	}
	r.stopServer()
	for _, h := range hosts { // each goes on by itself
		h.engine.set(func() { delete(h.here, web+"@"+digest("web 1")) })
		h.engine.set(h.engine.end)
		h.engine.set(func() { h.refresh(keep.FleetPrefix + "web") })
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.startServer()
	r.live(c, 2)
	r.is(c, "web", map[fleet.State]int{fleet.StateProven: 2})
	r.until("a set is taken", func() bool {
		_, err := c.PutSet(context.Background(), "db", images(db))
		return err == nil
	})
	r.is(c, "db", map[fleet.State]int{fleet.StateProven: 2})
}

// TestTwoControllers puts a set by two controllers at once, and kills the one that acts.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.controller("a")
	r.until("a acts", func() bool { return a.Link().Leader == "a" })
	b := r.controller("b")
	r.hosts(2)
	r.live(b, 2)
	var meet sync.WaitGroup
	meet.Add(2)
	r.registry.set(func() {
		r.registry.before = func(string) {
			meet.Done()
			meet.Wait()
		}
	})
	errs := make([]error, 2)
	var both sync.WaitGroup
	for n, c := range []controller{a, b} {
		both.Go(func() { _, errs[n] = c.PutSet(context.Background(), "web", images(web)) })
	}
	both.Wait()
	r.registry.set(func() { r.registry.before = nil })
	if (errs[0] == nil) == (errs[1] == nil) || puller.KindOf(errors.Join(errs...)) != puller.ErrConflict {
		t.Errorf("two puts at once give %v", errs)
	}
	r.is(b, "web", map[fleet.State]int{fleet.StateProven: 2})
	a.kill()
	r.registry.set(func() { r.registry.tags[web] = digest("web 2") })
	if s, err := r.put(b, "web", images(web)); err != nil || s.Generation != 2 || s.Counts[fleet.StateProven] != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if l := b.Link(); l.Leader != "b" {
		t.Errorf("%+v", l)
	}
}

// TestWaitAhead waits at a controller for generations that it does not know yet.
func TestWaitAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("c")
	r.hosts(1)
	r.live(c, 1)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	type answer struct {
		set fleet.Set
		err error
	}
	for generation := uint64(1); generation <= 2; generation++ {
		answers := make(chan answer, 1)
		r.registry.set(func() {
			r.registry.tags[web] = digest(fmt.Sprint("web ", generation))
			r.registry.before = func(string) { // the put has not kept anything yet
				go func() {
					set, err := c.Wait(ctx, "web", generation)
					answers <- answer{set, err}
				}()
				select {
				case early := <-answers:
					t.Errorf("generation %d: before it is there, %+v", generation, early)
					answers <- early
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
		if _, err := c.PutSet(ctx, "web", images(web)); err != nil {
			t.Fatal(err)
		}
		if a := <-answers; a.err != nil || a.set.Generation != generation || a.set.Counts[fleet.StateProven] != 1 {
			t.Errorf("generation %d: %+v", generation, a)
		}
	}
	r.registry.set(func() { r.registry.before = nil })
	if _, err := c.Wait(ctx, "web", 1); puller.KindOf(err) != puller.ErrConflict {
		t.Errorf("an older generation: %v", err)
	}
	if _, err := c.Wait(ctx, "web", 3); puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), "has not heard of generation 3") {
		t.Errorf("one that does not come: %v", err)
	}
}

// TestKilledController ends a controller between its resolution of the tags and its write.
func TestKilledController(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.controller("a"), r.controller("b")
	r.hosts(1)
	r.live(b, 1)
	if _, err := r.put(b, "web", images(web)); err != nil {
		t.Fatal(err)
	}
	resolves, killed := make(chan struct{}), make(chan struct{})
	r.registry.set(func() {
		r.registry.tags[web] = digest("web 2")
		r.registry.before = func(string) {
			close(resolves)
			<-killed
		}
	})
	failed := make(chan error)
	go func() {
		_, err := a.PutSet(context.Background(), "web", images(web))
		failed <- err
	}()
	<-resolves
	a.link.Conn().Close()
	r.registry.set(func() { r.registry.before = nil })
	close(killed)
	if err := <-failed; err == nil {
		t.Error("the put that was killed has succeeded")
	}
	s, err := b.Set("web")
	if err != nil || s.Generation != 1 || s.Images[0].Digest != digest("web 1") {
		t.Errorf("it is %+v, %v", s, err)
	}
	if s, err = r.put(b, "web", images(web)); err != nil || s.Generation != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestLaterFormat has a host get what a later Towline writes.
func TestLaterFormat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, h := r.one()
	r.raw("$KV.towline_ci_desired.host-0", `{"format":2,"serial":1000,"sets":[{"set":"web","generation":1,"images":"new"}]}`)
	r.until("it is refused", func() bool { return strings.Contains(r.log.String(), "format 2") })
	h.engine.set(func() {
		if len(h.sets) != 1 {
			t.Errorf("it keeps %v", h.sets)
		}
	})
	r.until("a report says so", func() bool {
		m, err := r.get("towline_ci_reports", "host-0.web")
		return err == nil && strings.Contains(m, "update it") && strings.Contains(m, "refused")
	})
}

// raw publishes as nobody in particular.
func (r *rig) raw(subject, value string) {
	r.Helper()
	conn, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", r.port))
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Request(subject, []byte(value), limit); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) get(bucket, key string) (string, error) {
	conn, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", r.port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return "", err
	}
	e, err := kv.Get(ctx, key)
	if err != nil {
		return "", err
	}
	return string(e.Value()), nil
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c, h := r.one()
	r.raw("$KV.towline_ci_reports.host-0.web", `{"format":1,"state":"proven","generation":1,"sum":"another"}`)
	r.until("a proof of other digests is none", func() bool {
		s, err := c.Set("web")
		return err == nil && s.Counts[fleet.StateFailed] == 1
	})
	for _, value := range []string{"", "\x00", "[]", "{", strings.Repeat("x", 30<<10)} {
		for _, key := range []string{"host-0", "host-0.web", "host-0.a.b", "host-0.UPPER", "stranger", "stranger.web"} {
			r.raw("$KV.towline_ci_reports."+key, value)
		}
		r.raw("$KV.towline_ci_desired.host-0", value)
	}
	r.raw("$KV.towline_ci_sets.broken", "{")
	r.until("it is logged", func() bool { return strings.Contains(r.log.String(), "a set of the fleet can't be read") })
	// The controller writes again what it wrote, and the host says again what it said.
	r.registry.set(func() { r.registry.tags[web] = digest("web 2") })
	s, err := r.put(c, "web", images(web))
	if err != nil || s.Generation != 2 || s.Counts[fleet.StateProven] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	h.engine.set(func() {
		if len(h.sets) != 1 {
			t.Errorf("it keeps %v", h.sets)
		}
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	hosts := r.hosts(3)
	r.live(c, 3)
	gate := make(chan struct{})
	for _, h := range hosts {
		h.engine.set(func() { h.gate = gate })
	}
	if _, err := c.PutSet(context.Background(), "web", images(web)); err != nil {
		t.Fatal(err)
	}
	frames, reader, err := c.Watch("web")
	if err != nil || len(frames) != 4 || frames[0].Type != fleet.EventSet {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	r.is(c, "web", map[fleet.State]int{fleet.StatePulling: 3})
	close(gate)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	proven := make(map[string]bool)
	for batches := 0; len(proven) < 3; batches++ {
		b, err := reader.Next(ctx, limit)
		if err != nil || b == nil || batches > 20 {
			t.Fatalf("after %d batches: %v", batches, err)
		}
		for _, f := range b.Frames() {
			var e fleet.Event
			if err := f.Decode(&e); err != nil {
				t.Fatal(err)
			}
			if e.Type == fleet.EventMember && e.Member.State == fleet.StateProven {
				proven[e.Member.Host] = true
			}
		}
	}
	_, all, err := c.Watch("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteSet(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	for removed := false; !removed; {
		b, err := all.Next(ctx, limit)
		if err != nil || b == nil {
			t.Fatal(err)
		}
		for _, f := range b.Frames() {
			removed = removed || f.Type == fleet.EventRemoved
		}
	}
	c.stop()
	for err == nil {
		_, err = all.Next(ctx, time.Minute)
	}
	if err != io.EOF {
		t.Error(err)
	}
}

// TestFlood has somebody with a host's credentials write much, and what is not true.
func TestFlood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.controller("main")
	hosts := r.hosts(2)
	r.live(c, 2)
	ci := images(web)
	ci.Hosts = map[string]string{"host": "host-1"}
	if _, err := r.put(c, "theirs", ci); err != nil {
		t.Fatal(err)
	}
	if _, err := r.put(c, "web", images(web)); err != nil {
		t.Fatal(err)
	}
	stolen, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer stolen.Close()
	reports := fleet.Subjects{Fleet: "ci"}.Reports()
	write := func(key string, value []byte) {
		if err := stolen.Publish(fleet.Key(reports, fleet.ReportKey("host-0", key)), value); err != nil {
			t.Fatal(err)
		}
	}
	proven := fleet.Encode(fleet.Report{Format: 1, Generation: 1 << 60, State: fleet.StateProven, Sum: "a lie", Digest: digest("a lie")})
	large := fleet.Encode(fleet.Report{Format: 1, Generation: 1, State: fleet.StateFailed, Error: strings.Repeat("x", fleet.MaxReport-200)})
	for n := range 1000 {
		write(fmt.Sprint("set-", n), proven)
		write(fmt.Sprint("Not-a-name-", n), []byte("{"))
		if n < 100 {
			write(fmt.Sprint("large-", n), large)
		}
	}
	write("theirs", large) // a set that it is not in
	beat := fleet.Encode(fleet.Beat{Session: "another", Name: "thief"})
	for range 500 {
		stolen.Publish(fleet.Subjects{Fleet: "ci"}.Beat("host-0"), beat)
	}
	if err := stolen.Flush(); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(stolen)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a full bucket", func(t *testing.T) {
		small := buckets.All(fleet.Subjects{Fleet: "small"})[2]
		small.MaxMsgs = 10
		if err := buckets.Open(t.Context(), js, small); err != nil {
			t.Fatal(err)
		}
		key := func(n int) string { return fleet.Key("towline_small_reports", fmt.Sprint("host-0.", n)) }
		for n := range 10 {
			if _, err := js.Publish(t.Context(), key(n), proven); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := js.Publish(t.Context(), key(10), proven); err == nil {
			t.Error("a report more is kept")
		}
		if _, err := js.Publish(t.Context(), key(0), []byte("news")); err != nil {
			t.Errorf("a report that is there does not change: %v", err)
		}
	})
	r.until("what it wrote is removed", func() bool {
		s, err := js.Stream(context.Background(), fleet.Stream(reports))
		return err == nil && s.CachedInfo().State.Msgs < 20
	})
	if s, err := c.Set("theirs"); err != nil || len(s.Members) != 1 || s.Counts[fleet.StateProven] != 1 {
		t.Errorf("another host's set is %+v, %v", s.Members, err)
	}
	r.until("a proof of another generation is none", func() bool {
		write("web", proven) // again: what it wrote before may still be removed, and this with it
		s, err := c.Set("web")
		return err == nil && s.Counts[fleet.StateProven] == 1 && s.Counts[fleet.StateWaiting] == 1
	})
	all, err := c.Hosts()
	if err != nil || len(all) != 2 || !all[0].Live || !strings.Contains(all[0].Error, "thief") || all[1].Error != "" {
		t.Errorf("the hosts are %+v, %v", all, err)
	}
	if n := strings.Count(r.log.String(), "a host of the fleet wrote what can't be read"); n > 2 {
		t.Errorf("it is logged %d times", n)
	}
	// The host itself says what is true as soon as there is news for it.
	r.registry.set(func() { r.registry.tags[web] = digest("web 2") })
	if s, err := r.put(c, "web", images(web)); err != nil || s.Counts[fleet.StateProven] != 2 {
		t.Errorf("%+v, %v", s.Counts, err)
	}
	hosts[0].engine.set(func() {
		if len(hosts[0].sets) != 1 {
			t.Errorf("the host keeps %v", hosts[0].sets)
		}
	})
}
