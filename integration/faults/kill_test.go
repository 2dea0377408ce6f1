package faults_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/towline/towline/integration/lab"
)

var (
	kills = flag.Int("kills", 6, "how often the daemon is killed under load; its power is cut a third as often")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what clients ask for, and of when the daemon is killed")
)

func TestDaemonThatIsKilledAtAnyMomentLosesNoJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.killAgainAndAgain(*kills, func() { r.towline.Kill() })
}

// The state lies on a file system of its own, which is shut down without a flush
// in the moment of the kill: what the daemon has not flushed is lost, as it is in
// a power cut. The disk itself is taken to keep what it has said that it keeps.
func TestPowerThatIsCutAtAnyMomentLosesNoJob(t *testing.T) {
	t.Parallel()
	lab.Need(t, site.err)
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	disk := newDisk(t, filepath.Join(dir, "state"))
	r := newRigIn(t, site.engine, dir, lab.TowlineOptions{})
	r.killAgainAndAgain(max(1, *kills/3), func() {
		// Of a killed process no thread does another step of its own: it does not
		// come to see that its disk is gone.
		if err := syscall.Kill(r.towline.Pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		disk.cut()
		r.towline.Kill()
		disk.restore()
	})
}

// disk is a file system in a file.
type disk struct {
	*testing.T
	image, dir string
}

func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	d := &disk{t, dir + ".image", dir}
	err := errors.Join(os.Mkdir(d.dir, 0o700), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 256<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", d.image}, {"mount", "-o", "loop", d.image, d.dir}} {
		if text, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			lab.Need(t, fmt.Errorf("no file system in a file: %s: %w: %s", command, err, text))
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// cut shuts the file system down: EXT4_IOC_SHUTDOWN, with EXT4_GOING_FLAGS_NOLOGFLUSH.
func (d *disk) cut() {
	dir, err := os.Open(d.dir)
	if err != nil {
		d.Error(err)
		return
	}
	defer dir.Close()
	how := uint32(2)
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), 0x8004587d, uintptr(unsafe.Pointer(&how))); no != 0 {
		d.Errorf("shutting the file system down: %v", no)
	}
}

// restore mounts it again. What dockerd does in mount namespaces of its own may
// keep the file system as it is for a moment; it is then the same that is mounted.
func (d *disk) restore() {
	ctx, cancel := within()
	defer cancel()
	err := lab.Poll(ctx, 10*time.Millisecond, func(context.Context) error {
		if err := syscall.Unmount(d.dir, 0); err != nil && !errors.Is(err, syscall.EINVAL) { // it is not mounted
			return err
		}
		if text, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
			return fmt.Errorf("mounting: %w: %s", err, text)
		}
		probe, err := os.CreateTemp(d.dir, "probe")
		if err != nil {
			return err
		}
		return errors.Join(probe.Close(), os.Remove(probe.Name()))
	})
	if err != nil {
		d.Error(err)
	}
}

// killAgainAndAgain has clients use the daemon, which ends so many times without warning.
func (r *rig) killAgainAndAgain(times int, end func()) {
	r.Logf("-seed=%d", *seed)
	r.idle = 16 // so many jobs ask the engine at a time
	dice := rand.New(rand.NewPCG(*seed, 0))
	load, rest := context.WithCancel(context.Background())
	life, leave := context.WithCancel(context.Background())
	c := &clients{observations: newObservations(r.T), towline: r.towline, load: load, life: life, lost: r.registry.Ref("lost", "v1")}
	defer func() {
		rest()
		leave()
		c.work.Wait()
	}()
	images := map[string]pushed{}
	for i := range 10 {
		for _, image := range r.pushTags(fmt.Sprintf("i%d", i), 1+i%3, int64(32+i%5*128)<<10, "v1", "keyed") {
			images[image.ref] = image
		}
		c.refs = append(c.refs, r.registry.Ref(fmt.Sprintf("i%d", i), "v1"))
	}
	r.registry.Throttle(1 << 20)
	began := time.Now()
	for n := range 12 {
		c.work.Go(func() { c.client(*seed, uint64(n)+1) })
	}
	c.work.Go(func() { r.forget(c, rand.New(rand.NewPCG(*seed, 100))) })

	var starts []time.Duration
	for c.kills < times && !r.Failed() {
		c.pause(time.Duration(dice.ExpFloat64() * float64(700*time.Millisecond)))
		end()
		r.killed(c)
		// Some do not come to be ready.
		for dice.IntN(8) == 0 && c.kills < times {
			r.halfStart(time.Duration(dice.IntN(400))*time.Millisecond, end)
			r.killed(c)
		}
		at := time.Now()
		r.start()
		starts = append(starts, time.Since(at))
	}
	under := time.Since(began)
	rest()
	r.done(c)
	r.registry.Throttle(0)
	// Once more, with nothing under way: all is as it was.
	end()
	r.killed(c)
	r.start()
	c.towline = r.towline
	if !r.Failed() {
		r.checkAnswers(c, images)
	}
	slices.Sort(starts)
	r.Logf("%d kills in %s, %d jobs, %d answers, %d numbered events told (%d of them different); ready after %s, at most %s",
		c.kills, under.Round(time.Second), len(c.jobs), c.answers, c.events, len(c.numbered), starts[len(starts)/2], starts[len(starts)-1])
}

// forget removes images from the engine, now and then.
func (r *rig) forget(c *clients, dice *rand.Rand) {
	for c.load.Err() == nil {
		c.pause(time.Duration(dice.IntN(300)) * time.Millisecond)
		ref := c.refs[dice.IntN(len(c.refs))]
		// It is refused while the image is in use.
		r.engine.RemoveImage(context.Background(), ref)
		r.engine.RemoveImage(context.Background(), strings.TrimSuffix(ref, ":v1")+":keyed")
	}
}

// killed looks at what a daemon has left.
func (r *rig) killed(c *clients) {
	c.mu.Lock()
	c.kills++
	c.mu.Unlock()
	log := r.towline.Log()
	for _, bad := range []string{"DATA RACE", "panic", "damaged", "level=error", "level=fatal"} {
		if strings.Contains(log, bad) {
			r.Errorf("the daemon's log has %q:\n%s", bad, log)
		}
	}
	if aside, _ := filepath.Glob(filepath.Join(r.dir, "state", "jobs.db.damaged*")); len(aside) > 0 {
		r.Errorf("the store was set aside: %s", aside)
	}
}

// halfStart begins to start the daemon, and ends it after a time.
func (r *rig) halfStart(after time.Duration, end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	if towline, err := lab.StartTowline(ctx, site.bin, r.dir, r.opts); err == nil {
		r.towline = towline
		end()
	} else if ctx.Err() == nil {
		r.Errorf("the daemon has ended by itself: %v", err)
	}
}

// done waits until the clients knows the end of all that it asked for.
func (r *rig) done(c *clients) {
	finished := make(chan struct{})
	go func() {
		c.work.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(patience):
		r.Fatalf("%d jobs do not end, such as %s\n%s", c.unended(), c.pick(0, false), r.towline.Log())
	}
	r.until("the jobs of nobody have ended", r.idles)
}

// checkAnswers holds what the clients was told against what the daemon has at the end.
func (r *rig) checkAnswers(c *clients, images map[string]pushed) {
	var strangers int
	for cursor := ""; ; {
		page, next := c.list(cursor, 1000)
		for _, v := range page {
			if !v.State.Ended() {
				r.Errorf("%+v has not ended", v)
			}
			c.mu.Lock()
			known := c.jobs[v.ID] != nil
			c.mu.Unlock()
			switch {
			case known:
			case strings.HasSuffix(v.Image, ":keyed"):
				r.Errorf("a key has given a job that its client never got: %+v", v)
			case v.Parent == "":
				strangers++
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	if strangers > c.unanswered {
		r.Errorf("%d jobs are of nobody, and %d submissions got no answer", strangers, c.unanswered)
	}
	lost := 0
	for id := range c.jobs {
		c.get(id)
		lost += r.compare(c, id)
	}
	c.judge(images)
	r.Logf("%d jobs of submissions without an answer (of %d); %d times an event that a reader had seen was lost", strangers, c.unanswered, lost)
}

// compare holds a job's record against what its readers were told from its
// beginning on: they have missed nothing of it. It returns how many events they
// were told that the record has not, as a kill may leave it.
func (r *rig) compare(c *clients, id string) (lost int) {
	final := &reader{clients: c, id: id, whole: true}
	final.toEnd(0)
	for _, seqs := range c.whole[id] {
		for _, seq := range final.seqs {
			if !slices.Contains(seqs, seq) {
				r.Errorf("a reader of %s was not told %d of %d, but %d", id, seq, final.seqs, seqs)
			}
		}
		lost += len(seqs) - len(final.seqs)
	}
	return lost
}
