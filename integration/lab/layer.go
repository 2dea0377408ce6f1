package lab

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer is a v1.Layer whose bytes are written anew each time they are read, so that
// images larger than memory can be made. It is a gzip without compression: random
// bytes would not shrink, and this is quick.
type layer struct {
	write  func(*tar.Writer) error // the same bytes at every call
	digest v1.Hash
	diffID v1.Hash
	size   int64
}

// newLayer writes the layer once, to know its digests and its size.
func newLayer(write func(*tar.Writer) error) (*layer, error) {
	l := &layer{write: write}
	packed, plain := sha256.New(), sha256.New()
	count := &counter{}
	zip, err := gzip.NewWriterLevel(io.MultiWriter(packed, count), gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	if err := l.writeTar(io.MultiWriter(zip, plain)); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(packed.Sum(nil))}
	l.diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))}
	l.size = count.n
	return l, nil
}

func (l *layer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.DockerLayer, nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return stream(l.writeTar), nil }
func (l *layer) Compressed() (io.ReadCloser, error) {
	return stream(func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, gzip.NoCompression)
		if err != nil {
			return err
		}
		if err := l.writeTar(zip); err != nil {
			return err
		}
		return zip.Close()
	}), nil
}

func (l *layer) writeTar(w io.Writer) error {
	archive := tar.NewWriter(w)
	if err := l.write(archive); err != nil {
		return err
	}
	return archive.Close()
}

// stream turns a writing function into a reader. Its goroutine ends when the reader
// has been read to the end, or is closed.
func stream(write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }()
	return r
}

// counter counts the bytes written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
