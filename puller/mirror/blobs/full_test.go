package blobs_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/storetest"
)

func TestFullDisk(t *testing.T) {
	old, _ := bytesOf(1, 3<<20)
	p, digest := bytesOf(2, 6<<20)
	t.Run("idle blobs go", func(t *testing.T) {
		dir := t.TempDir()
		storetest.SmallDisk(t, dir, "8m")
		s := open(t, dir, blobs.Options{})
		defer s.Close()
		keep(t, s, old)
		b := acquire(t, s, digest, len(p))
		defer b.Release()
		for at := 0; at < len(p); at += 1 << 20 {
			write(t, b, p[at:at+1<<20], at)
		}
		wantAll(t, b, p, 0)
		if got := s.Stats(); got.Evicted != 1 || s.Holds(digestOf(old), int64(len(old))) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("those in use stay", func(t *testing.T) {
		dir := t.TempDir()
		resize := storetest.SmallDisk(t, dir, "8m")
		s := open(t, dir, blobs.Options{})
		defer s.Close()
		used := acquire(t, s, digestOf(old), len(old))
		defer used.Release()
		write(t, used, old, 0)
		b := acquire(t, s, digest, len(p))
		r := b.NewReader(context.Background(), 0)
		defer r.Close()
		write(t, b, p[:1<<20], 0)
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		var err error
		for at := 1 << 20; at < len(p) && err == nil; at += 1 << 20 {
			_, err = b.WriteAt(p[at:at+1<<20], int64(at))
		}
		wantKind(t, err, puller.ErrNoSpace)
		if _, err := io.ReadAll(r); puller.KindOf(err) != puller.ErrNoSpace {
			t.Errorf("the reader got %v", err)
		}
		if b.Have() != 0 {
			t.Errorf("%d bytes are there", b.Have())
		}
		if diff := cmp.Diff([]string{nameOf(1, len(old))}, list(t, dir)); diff != "" {
			t.Error(diff)
		}
		wantAll(t, used, old, 0)

		resize("20m")
		write(t, b, p, 0)
		wantAll(t, b, p, 0)
		b.Release()
	})
	t.Run("no file can be made", func(t *testing.T) {
		dir := t.TempDir()
		storetest.SmallDisk(t, dir, "8m")
		s := open(t, dir, blobs.Options{})
		defer s.Close()
		free := storetest.FillDisk(t, dir)
		b := acquire(t, s, digest, len(p))
		defer b.Release()
		_, err := b.WriteAt(p, 0)
		wantKind(t, err, puller.ErrNoSpace)
		free()
		if got := list(t, dir); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		if n, err := b.WriteAt(bytes.Clone(p), 0); err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
