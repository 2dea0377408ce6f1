package blobs_test

import (
	"bytes"
	"testing"

	"github.com/towline/towline/puller/mirror/blobs/ranges"
)

// The file of any size is small, and means what it says.
func TestBitmapSizes(t *testing.T) {
	for _, size := range []int64{1, 7, 64 << 10, 64<<10 + 1, 1 << 30, 1<<50 - 1, 1 << 50} {
		file := ranges.NewBitmap(size, 64<<10).Encode()
		if len(file) > 8<<10+28 {
			t.Errorf("%d bytes: the bitmap has %d", size, len(file))
		}
		m, err := ranges.ParseBitmap(file)
		if err != nil {
			t.Fatal(err)
		}
		if there := m.Ranges(size); m.Size() != size || there != nil {
			t.Errorf("%d bytes: got %d, %v", size, m.Size(), there)
		}
	}
}

// FuzzBitmap reads bitmap files that may be damaged.
func FuzzBitmap(f *testing.F) {
	for _, size := range []int64{1, 100, 70_000, 10 << 20, 1 << 50} {
		file := ranges.NewBitmap(size, 4<<10).Encode()
		f.Add(file, size)
		file[28] |= 1
		f.Add(file, size)
		f.Add(file, size/2)
		f.Add(file[:len(file)-1], size)
	}
	f.Fuzz(func(t *testing.T, file []byte, length int64) {
		given := bytes.Clone(file)
		m, err := ranges.ParseBitmap(file)
		if err != nil {
			return
		}
		size, there, again := m.Size(), m.Ranges(length), m.Encode()
		last := int64(-1)
		for _, r := range there {
			if r.From <= last || r.To <= r.From || r.To > size || r.To > length {
				t.Fatalf("%d bytes, %d in the file: %v", size, length, there)
			}
			last = r.To
		}
		if length >= size && !bytes.Equal(given, again) {
			t.Errorf("%x is written as %x", given, again)
		}
	})
}
