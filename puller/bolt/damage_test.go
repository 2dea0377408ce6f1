package bolt_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

var damages = flag.Int("damages", 20, "how many files are damaged at random before they are opened")

func TestDamageAtTheStart(t *testing.T) {
	t.Parallel()
	t.Run("cut off", testCutOff)
	t.Run("at random", testRandom)
}

func testCutOff(t *testing.T) {
	data := pages(master(t))
	if !survive(t, "the whole file", data) {
		t.Fatal("the whole file is not good")
	}
	rng := rand.New(rand.NewPCG(11, 12))
	for _, size := range []int{0, 1, 63, 80, 4095, 4096, 4097, 4096 + 80, 8191, 8192, 8193, 12288, len(data) / 2, len(data) - 4096, len(data) - 1} {
		if survive(t, fmt.Sprintf("cut at %d", size), data[:size]) {
			t.Errorf("cut at %d, it is taken for whole", size)
		}
	}
	for range *damages / 5 {
		size := rng.IntN(len(data))
		if survive(t, fmt.Sprintf("cut at %d", size), data[:size]) {
			t.Errorf("cut at %d, it is taken for whole", size)
		}
	}
}

// testRandom damages the file in many ways. Nothing ends the process, and nothing
// is made up.
func testRandom(t *testing.T) {
	data := pages(master(t))
	rng := rand.New(rand.NewPCG(13, 14))
	var aside atomic.Int32
	t.Run("files", func(t *testing.T) {
		for i := range *damages {
			bad, how := damageAt(rng, data)
			t.Run(fmt.Sprintf("%d %s", i, how), func(t *testing.T) {
				t.Parallel()
				if !survive(t, how, bad) {
					aside.Add(1)
				}
			})
		}
	})
	t.Logf("%d of %d were set aside", aside.Load(), *damages)
	for what, bad := range map[string][]byte{
		"a text": []byte(strings.Repeat("this is no database\n", 3000)), "a short text": []byte("no"),
		"zeros": make([]byte, 1<<16), "two headers only": data[:8192],
	} {
		if survive(t, what, bad) {
			t.Errorf("%s is taken for a store", what)
		}
	}
}

// damageAt returns a damaged copy of a file, and what was done to it.
func damageAt(rng *rand.Rand, data []byte) (bad []byte, what string) {
	bad = bytes.Clone(data)
	at := rng.IntN(len(bad))
	if rng.IntN(2) == 0 { // where the structure is
		at = at/4096*4096 + rng.IntN(64)
	}
	how := ""
	switch rng.IntN(5) {
	case 0:
		bad[at] ^= 1 << rng.IntN(8)
		how = "a bit"
	case 1:
		bad[at] = byte(rng.IntN(256))
		how = "a byte"
	case 2:
		page := at / 4096 * 4096
		clear(bad[page : page+4096])
		how = "a page of zeros"
	case 3:
		page, from := at/4096*4096, rng.IntN(len(bad)/4096)*4096
		copy(bad[page:page+4096], data[from:])
		how = "a page in another's place"
	case 4:
		for j := at; j < min(at+200, len(bad)); j++ {
			bad[j] = byte(rng.IntN(256))
		}
		how = "noise"
	}
	return bad, fmt.Sprintf("%s at %d", how, at)
}

// TestMisleadingPages has pages that bbolt would follow without a question. One check
// ends only when its memory is full.
func TestMisleadingPages(t *testing.T) {
	data := pages(master(t))
	size := os.Getpagesize()
	root := binary.NativeEndian.Uint64(data[16+16:]) // by the one header and the other
	if binary.NativeEndian.Uint64(data[size+16+48:]) > binary.NativeEndian.Uint64(data[16+48:]) {
		root = binary.NativeEndian.Uint64(data[size+16+16:])
	}
	for what, mislead := range map[string]func(page []byte, flags, count uint16) bool{
		"a branch that leads to itself": func(page []byte, flags, count uint16) bool {
			if flags == 1 {
				copy(page[16+8:16+16], page[:8])
			}
			return flags == 1
		},
		"a page in use that is free": func(page []byte, flags, count uint16) bool {
			if flags == 0x10 && count > 0 {
				binary.NativeEndian.PutUint64(page[16:], root)
			}
			return flags == 0x10 && count > 0
		},
		"a page that overflows into all others": func(page []byte, flags, count uint16) bool {
			page[12+3] |= 0x40
			return true
		},
		"a value that reaches out of the file": func(page []byte, flags, count uint16) bool {
			ended := flags == 2 && count > 0 && bytes.Contains(page, []byte(`"state":"succeeded"`))
			if ended {
				page[16+12+3] |= 0x40
			}
			return ended
		},
		"a record that has not ended less": func(page []byte, flags, count uint16) bool {
			unended := flags == 2 && count > 1 && bytes.Contains(page, []byte(`"state":"queued"`)) && !bytes.Contains(page, []byte(`"state":"succeeded"`))
			if unended {
				binary.NativeEndian.PutUint16(page[10:], count-1)
			}
			return unended
		},
	} {
		bad, n := bytes.Clone(data), 0
		for at := 2 * size; at < len(bad); at += size {
			page := bad[at : at+size]
			if mislead(page, binary.NativeEndian.Uint16(page[8:]), binary.NativeEndian.Uint16(page[10:])) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("%s: there is no such page", what)
		}
		t.Run(what, func(t *testing.T) {
			if survive(t, what, bad) {
				t.Errorf("%s is not found", what)
			}
		})
	}
}

// What happens to the file while it is open shows when it is used.
func TestDamageWhileOpen(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	size := int64(len(pages(master(t))))
	for i := range 40 {
		b := newMemoryBox(t)
		s := b.open()
		fill(t, s)
		f, err := os.OpenFile(b.file(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		what := ""
		switch i % 4 {
		case 0:
			at := rng.Int64N(size)
			if i == 0 {
				at = 0
			}
			what = fmt.Sprintf("cut at %d", at)
			err = f.Truncate(at)
		case 1:
			at := rng.Int64N(size/4096) * 4096
			what = fmt.Sprintf("zeros at %d", at)
			_, err = f.WriteAt(make([]byte, 4096), at)
		case 2:
			what = "noise over all of it"
			noise := make([]byte, size)
			for j := range noise {
				noise[j] = byte(rng.IntN(256))
			}
			_, err = f.WriteAt(noise, 0)
		case 3:
			what = "no headers"
			_, err = f.WriteAt(make([]byte, 8192), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		readable(t, what, s, nil)
		if _, _, err := s.Load(); err != nil && puller.KindOf(err) != puller.ErrInternal {
			t.Errorf("%s: Load gives %v", what, err)
		}
		if usable(t, what, s) && i%4 != 1 {
			t.Errorf("%s: it is not found", what)
		}
		if len(b.aside()) > 0 {
			t.Errorf("%s: it was set aside while it was in use", what)
		}
		if s.Close() != nil || t.Failed() {
			t.Fatalf("%s: Close", what)
		}
	}
}

// A store that was damaged while it was in use takes nothing any more; the next
// start sets it aside.
func TestDamageRefusesUntilTheNextStart(t *testing.T) {
	b := newBox(t)
	s := b.open()
	save(t, s, 5, storetest.NewRecord(1))
	id := s.Instance()
	if err := os.Truncate(b.file(), 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Record(storetest.RecordID(1)); puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), b.dir) {
			t.Errorf("a read gives %v", err)
		}
		if err := s.Save(6, []store.Record{storetest.NewRecord(2)}); puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), b.dir) || !strings.Contains(err.Error(), "restart towline") {
			t.Errorf("a Save gives %v", err)
		}
		if _, _, err := s.Load(); puller.KindOf(err) != puller.ErrInternal {
			t.Errorf("Load gives %v", err)
		}
	}
	if n := len(b.aside()); n != 0 {
		t.Errorf("%d files were set aside", n)
	}
	closeIt(t, s)
	again := b.open()
	if n := len(b.aside()); n != 1 {
		t.Errorf("%d files were set aside", n)
	}
	if seq, unended, err := again.Load(); seq <= 6 || len(unended) != 0 || err != nil || again.Instance() == id {
		t.Errorf("the next start finds seq %d, %d records and the ID %q, %v", seq, len(unended), again.Instance(), err)
	}
	if _, whole, err := again.Private(); whole || err != nil {
		t.Errorf("it says that it knows all private images, %v", err)
	}
	save(t, again, 7, storetest.NewRecord(2))
}
