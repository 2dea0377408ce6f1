package main

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/integration/lab"
)

const mb = 1_000_000

// image is what a scenario pulls.
type image struct {
	repo, id string
	blobs    map[string]int64 // sizes by digest: layers, and the configuration
}

// kinds are the images of scenarios. Nothing compresses their content, and each layer
// is one file: an engine has as little work with them as it can have.
var kinds = map[string]func() ([]v1.Image, error){
	// Eight with three layers of 20 MB of their own, and one of 30 MB below, which
	// they share.
	"eight": func() (all []v1.Image, err error) {
		base, err := lab.RandomLayer(1, 0, 30*mb)
		for seed := int64(2); err == nil && seed < 10; seed++ {
			layers := []v1.Layer{base}
			for number := 0; err == nil && number < 3; number++ {
				var l v1.Layer
				l, err = lab.RandomLayer(seed, number, 20*mb)
				layers = append(layers, l)
			}
			if err == nil {
				var i v1.Image
				i, err = lab.ImageOf("", layers...)
				all = append(all, i)
			}
		}
		return all, err
	},
	"one": func() ([]v1.Image, error) {
		i, err := lab.RandomImage(20, 1, 300*mb, "")
		return []v1.Image{i}, err
	},
	"small": func() ([]v1.Image, error) {
		i, err := lab.RandomImage(30, 2, mb, "")
		return []v1.Image{i}, err
	},
}

// push puts the images of a kind into the registry, once.
func (s *site) push(ctx context.Context, kind string) ([]image, error) {
	if s.images[kind] != nil {
		return s.images[kind], nil
	}
	made, err := kinds[kind]()
	if err != nil {
		return nil, err
	}
	for n, i := range made {
		p := image{repo: fmt.Sprintf("%s%d", kind, n), blobs: map[string]int64{}}
		if _, err := s.registry.Push(ctx, p.repo, "v1", i); err != nil {
			return nil, err
		}
		m, err := i.Manifest()
		if err != nil {
			return nil, err
		}
		p.id = m.Config.Digest.String()
		for _, b := range append(m.Layers, m.Config) {
			p.blobs[b.Digest.String()] = b.Size
		}
		s.images[kind] = append(s.images[kind], p)
	}
	return s.images[kind], nil
}

// sizes joins the blobs of images.
func sizes(images []image) (all map[string]int64, total int64) {
	all = map[string]int64{}
	for _, i := range images {
		for digest, size := range i.blobs {
			if _, known := all[digest]; !known {
				all[digest] = size
				total += size
			}
		}
	}
	return all, total
}
