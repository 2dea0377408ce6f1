package blobs_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

func TestUnproven(t *testing.T) {
	const size = 1 << 20
	content := bytes.Repeat([]byte("unproven"), size/8)
	wrong := bytes.Clone(content)
	wrong[300_000]++
	name := digest.FromBytes(content).String()
	begin := func(t *testing.T) *blobs.Blob {
		s := open(t, t.TempDir(), blobs.Options{Cap: 1 << 30})
		b := acquire(t, s, name, size)
		b.KeepWrong(true)
		if _, err := b.WriteAt(wrong, 0); puller.KindOf(err) != puller.ErrCorrupt {
			t.Fatalf("wrong bytes give %v", err)
		}
		if b.Whole() || len(b.Missing()) > 0 || b.Have() != size {
			t.Fatalf("whole: %v, missing: %v", b.Whole(), b.Missing())
		}
		return b
	}
	t.Run("repaired", func(t *testing.T) {
		b := begin(t)
		early, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := b.Await(early, 0); err == nil {
			t.Error("bytes that are known to be wrong are given")
		}
		if err := b.Discard([]blobs.Range{{From: 300_000, To: 300_001}}); err != nil {
			t.Fatal(err)
		}
		want := []blobs.Range{{From: 4 * 65536, To: 5 * 65536}}
		if diff := cmp.Diff(want, b.Missing()); diff != "" {
			t.Fatal(diff)
		}
		if to, err := b.Await(t.Context(), 5); to != want[0].From || err != nil {
			t.Errorf("bytes are there up to %d: %v", to, err)
		}
		if _, err := b.ReadAt(make([]byte, 2), want[0].From-1); err == nil {
			t.Error("a missing byte was read")
		}
		if _, err := b.WriteAt(content[want[0].From:want[0].To], want[0].From); err != nil || !b.Whole() {
			t.Fatalf("whole: %v, %v", b.Whole(), err)
		}
		in := b.NewReader(t.Context(), 0)
		defer in.Close()
		if got, err := io.ReadAll(in); !bytes.Equal(got, content) || err != nil {
			t.Errorf("%d bytes are read: %v", len(got), err)
		}
		if err := b.Discard(want); err == nil {
			t.Error("bytes of a whole blob were thrown away")
		}
	})
	t.Run("taken_back", func(t *testing.T) {
		b := begin(t)
		if b.KeepWrong(false); b.Have() != 0 {
			t.Errorf("%d bytes stay", b.Have())
		}
		if _, err := b.WriteAt(content, 0); err != nil || !b.Whole() {
			t.Errorf("whole: %v, %v", b.Whole(), err)
		}
	})
	t.Run("last_bytes", func(t *testing.T) {
		s := open(t, t.TempDir(), blobs.Options{Cap: 1 << 30})
		b := acquire(t, s, name, size)
		if _, err := b.WriteAt(content[size-10:], size-10); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10)
		if to, err := b.Await(t.Context(), size-10); to != size || err != nil {
			t.Errorf("bytes are there up to %d: %v", to, err)
		}
		if _, err := b.ReadAt(got, size-10); err != nil || !bytes.Equal(got, content[size-10:]) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("wanted", func(t *testing.T) {
		s := open(t, t.TempDir(), blobs.Options{Cap: 1 << 30})
		b := acquire(t, s, name, size)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := b.Await(ctx, 77)
			ended <- err
		}()
		for b.Wanted() != 77 {
			runtime.Gosched()
		}
		cancel()
		if err := <-ended; err == nil || b.Wanted() != -1 {
			t.Errorf("it ended with %v, and %d is wanted", err, b.Wanted())
		}
	})
}
