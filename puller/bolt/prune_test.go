package bolt_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestPruneGivesSpaceBack(t *testing.T) {
	t.Parallel()
	b := newMemoryBox(t)
	s := b.open()
	const jobs, keep = 2400, 150
	for n := 0; n < jobs; n += 100 {
		var records []store.Record
		for i := range 100 {
			records = append(records, bulky(n+i))
		}
		save(t, s, uint64(n), records...)
	}
	save(t, s, jobs, storetest.NewRecord(9000))
	before := size(t, b.file())
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				want := bulky(jobs - 1 - n%keep)
				if r, err := s.Record(want.Job.ID); err != nil || !reflect.DeepEqual(r, want) {
					t.Errorf("a reader gets %v", err)
					return
				}
				if list, err := s.Ended(puller.Filter{Kind: "pull", Limit: 20}); err != nil || len(list) != 20 {
					t.Errorf("a reader gets %d jobs, %v", len(list), err)
					return
				}
			}
		})
	}
	n, err := s.Prune(time.Time{}, keep, math.MaxInt64)
	if n != jobs-keep || err != nil {
		t.Errorf("%d were pruned: %v", n, err)
	}
	close(stop)
	readers.Wait()
	after := size(t, b.file())
	if after > before/5 {
		t.Errorf("the file has %d bytes, of %d", after, before)
	}
	if b.log.Len() > 0 {
		t.Errorf("something is logged: %s", &b.log)
	}
	for i, open := range []func() store.Store{
		func() store.Store { return s },
		func() store.Store { closeIt(t, s); return b.open() },
	} {
		s := open()
		save(t, s, uint64(9000+i), storetest.NewRecord(9001+i), ended(jobs+i))
		if seq, unended, err := s.Load(); seq != uint64(9000+i) || len(unended) != 2+i || err != nil {
			t.Errorf("after it: seq %d, %d records, %v", seq, len(unended), err)
		}
		for n := jobs - keep; n < jobs; n++ {
			if r, err := s.Record(storetest.RecordID(n)); err != nil || !reflect.DeepEqual(r, bulky(n)) {
				t.Errorf("record %d: %v", n, err)
			}
		}
		if list, err := s.Ended(puller.Filter{Image: bulky(3).Job.Image}); len(list) == 0 || err != nil {
			t.Errorf("the list has %d jobs, %v", len(list), err)
		}
	}
	if n, err := s.Prune(time.Time{}, 0, 0); puller.KindOf(err) != puller.ErrInternal {
		t.Errorf("the closed store prunes %d: %v", n, err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestOpenRemovesAnUnfinishedFile(t *testing.T) {
	b := newBox(t)
	closeIt(t, b.open())
	left := b.file() + ".new"
	if err := os.WriteFile(left, []byte("half of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	save(t, b.open(), 1, storetest.NewRecord(1))
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

// saveUntilKilled is the process that TestKill kills.
func saveUntilKilled(dir string) error {
	s, err := bolt.Open(context.Background(), dir, bolt.Options{Log: discard(), Checker: checker})
	if err != nil {
		return err
	}
	seq, _, err := s.Load()
	if err != nil {
		return err
	}
	for {
		var records []store.Record
		for i := range 50 {
			records = append(records, bulky(int(seq)*50+i))
		}
		seq++
		if err := s.Save(seq, append(records, storetest.NewRecord(1_000_000))); err != nil {
			return err
		}
		fmt.Printf("saved %d\n", seq)
		if seq%25 == 0 {
			if _, err := s.Prune(time.Time{}, 200, math.MaxInt64); err != nil {
				return err
			}
		}
	}
}

var kills = flag.Int("kills", 4, "how often TestKill kills a process that saves")

func TestKill(t *testing.T) {
	t.Parallel()
	b := newMemoryBox(t)
	last := uint64(0)
	for kill := range *kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], saveArgument, b.dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			text, ok := strings.CutPrefix(lines.Text(), "saved ")
			if !ok {
				t.Fatalf("the child says %q", lines.Text())
			}
			if last, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(err)
			}
			// At once after some Save, which is in a Prune for some.
			if last%25 == 0 && n > 5 || n == 10+7*kill {
				break
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		s := b.open()
		seq, unended, err := s.Load()
		if err != nil || seq < last || seq > last+1 || len(unended) != 1 {
			t.Fatalf("after seq %d: %d, %d records, %v", last, seq, len(unended), err)
		}
		list, err := s.Ended(puller.Filter{Limit: 200})
		if err != nil || len(list) < 200 || list[0].ID != storetest.RecordID(int(seq)*50-1) {
			t.Fatalf("%d jobs are left: %v", len(list), err)
		}
		for _, j := range list {
			if _, err := s.Record(j.ID); err != nil {
				t.Error(err)
			}
		}
		closeIt(t, s)
		if left, _ := filepath.Glob(b.file() + ".*"); len(left) > 0 {
			t.Fatalf("there is more than the file: %q\n%s", left, &b.log)
		}
	}
}
