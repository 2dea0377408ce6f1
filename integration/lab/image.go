package lab

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// RandomImage makes an image that nothing can compress: layers layers, each with one
// file of layerBytes bytes. The same arguments give the same image, bit for bit; another
// seed gives one that shares no layer with it. platform is "os/arch[/variant]", or ""
// for this machine's. The bytes are made when they are read; none are kept.
func RandomImage(seed int64, layers int, layerBytes int64, platform string) (v1.Image, error) {
	all := make([]v1.Layer, layers)
	for i := range all {
		var err error
		if all[i], err = RandomLayer(seed, i, layerBytes); err != nil {
			return nil, err
		}
	}
	return ImageOf(platform, all...)
}

// RandomLayer makes the layer with a number of an image that [RandomImage] makes.
func RandomLayer(seed int64, number int, bytes int64) (v1.Layer, error) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[0:], uint64(seed))
	binary.LittleEndian.PutUint64(key[8:], uint64(number))
	l, err := newLayer(func(archive *tar.Writer) error {
		return writeFile(archive, fmt.Sprintf("random-%d-%d", seed, number), 0o644, bytes,
			io.LimitReader(rand.NewChaCha8(key), bytes))
	})
	if err != nil {
		return nil, fmt.Errorf("lab: layer %d: %w", number, err)
	}
	return l, nil
}

// ImageOf makes an image of layers, the lowest first, which others may share. platform
// is as with [RandomImage].
func ImageOf(platform string, layers ...v1.Layer) (v1.Image, error) {
	return newImage(platform, nil, layers...)
}

// BinaryImage makes an image of one layer that holds a static program at /app, which
// is its entrypoint. platform is as with [RandomImage]; it should be what the program
// was built for. The file is read again whenever the image is, so it must stay.
func BinaryImage(path, platform string) (v1.Image, error) {
	l, err := newLayer(func(archive *tar.Writer) error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		return writeFile(archive, "app", 0o755, info.Size(), file)
	})
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return newImage(platform, []string{"/app"}, l)
}

// newImage puts layers together under a config with a history of them.
func newImage(platform string, entrypoint []string, layers ...v1.Layer) (v1.Image, error) {
	if platform == "" {
		platform = "linux/" + runtime.GOARCH
	}
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, fmt.Errorf("lab: platform %q: %w", platform, err)
	}
	created := v1.Time{Time: time.Unix(0, 0).UTC()} // a fixed one, for a fixed digest
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS:           p.OS,
		Architecture: p.Architecture,
		Variant:      p.Variant,
		Created:      created,
		Config:       v1.Config{Entrypoint: entrypoint},
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for i, l := range layers {
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:   l,
			History: v1.History{Created: created, CreatedBy: fmt.Sprintf("lab layer %d", i)},
		})
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	return image, nil
}

func writeFile(archive *tar.Writer, name string, mode, size int64, content io.Reader) error {
	err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size})
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, content)
	return err
}
