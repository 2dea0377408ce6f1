package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/towline/towline/integration/lab"
)

// runs measures whole commands that run a small image's program, which is there
// already, in turn. No bridge network: the lab's engine has none.
func (s *site) runs(ctx context.Context, pairs int) error {
	ref, err := s.actor(ctx)
	if err != nil {
		return err
	}
	viaDocker := func() error { return s.docker(ctx, "run", "--rm", "--network", "none", ref, "out=hello") }
	viaTowline := func() error { return s.towline(ctx, "run", "--network", "none", ref, "out=hello") }
	var docker, towline, ratio spread
	// The first pair only warms caches; then each is the first in every other.
	for i := range pairs + 1 {
		first, second := viaDocker, viaTowline
		if i%2 == 1 {
			first, second = second, first
		}
		d, err := seconds(first)
		if err != nil {
			return err
		}
		t, err := seconds(second)
		if err != nil {
			return err
		}
		if i%2 == 1 {
			d, t = t, d
		}
		if i > 0 {
			docker.add(1000 * d)
			towline.add(1000 * t)
			ratio.add(t / d)
		}
	}
	fmt.Printf("run, the image present, %d pairs: docker run --rm %v ms, towline run %v ms, ratio %v\n", pairs, docker, towline, ratio)
	return s.engine.RemoveImage(ctx, ref)
}

// actor has the engine pull the actor's image, and returns its name.
func (s *site) actor(ctx context.Context) (ref string, err error) {
	program := filepath.Join(s.dir, "actor")
	if err := lab.BuildStatic(ctx, "lab/testdata/testprogram", program); err != nil {
		return "", err
	}
	image, err := lab.BinaryImage(program, "")
	if err != nil {
		return "", err
	}
	if _, err := s.registry.Push(ctx, "benchrun", "v1", image); err != nil {
		return "", err
	}
	ref = s.registry.Ref("benchrun", "v1")
	return ref, s.docker(ctx, "pull", "-q", ref)
}
