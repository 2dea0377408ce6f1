package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
)

func (s *site) push(ctx context.Context, seed int64, layers int, layerBytes int64) (string, error) {
	image, err := lab.RandomImage(seed, layers, layerBytes, "linux/amd64")
	if err != nil {
		return "", err
	}
	repo := fmt.Sprintf("bench%d", seed)
	_, err = s.registry.Push(ctx, repo, "v1", image)
	return s.registry.Ref(repo, "v1"), err
}

func (s *site) docker(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.engine.Host)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker %v: %w: %s", args, err, out)
	}
	return nil
}

func (s *site) towline(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.bin, append([]string{"--host", s.daemon.Host}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("towline %v: %w: %s", args, err, out)
	}
	return nil
}

// cold measures whole commands, the image absent each time, in turn.
func (s *site) cold(ctx context.Context, pairs int) error {
	ref, err := s.push(ctx, 1, 4, 24<<20)
	if err != nil {
		return err
	}
	var docker, towline, ratio spread
	// The first pair only warms caches.
	for i := range pairs + 1 {
		if err := s.engine.RemoveImage(ctx, ref); err != nil {
			return err
		}
		d, err := seconds(func() error { return s.docker(ctx, "pull", "-q", ref) })
		if err != nil {
			return err
		}
		if err := s.engine.RemoveImage(ctx, ref); err != nil {
			return err
		}
		t, err := seconds(func() error { return s.towline(ctx, "pull", "-q", ref) })
		if err != nil {
			return err
		}
		if i > 0 {
			docker.add(d)
			towline.add(t)
			ratio.add(t / d)
		}
	}
	fmt.Printf("cold, 4 layers of 24 MiB, %d pairs: docker pull %v s, towline pull %v s, ratio %v\n", pairs, docker, towline, ratio)
	return s.engine.RemoveImage(ctx, ref)
}

// warm measures the image present, ten calls of a kind in a row: docker pull,
// the API on a connection that is open, as an agent has one, and towline pull.
func (s *site) warm(ctx context.Context, n int) error {
	ref, err := s.push(ctx, 2, 2, 1<<20)
	if err != nil {
		return err
	}
	c, err := client.New(s.daemon.Host, "")
	if err != nil {
		return err
	}
	defer c.Close()
	call := func() error {
		_, err := c.Pull(ctx, client.PullRequest{Image: ref})
		return err
	}
	if err := call(); err != nil {
		return err
	}
	var docker, api, cli, apiRatio, cliRatio spread
	const row = 10
	for i := range n + 1 {
		d, err := inARow(row, func() error { return s.docker(ctx, "pull", "-q", ref) })
		if err != nil {
			return err
		}
		a, err := inARow(row, call)
		if err != nil {
			return err
		}
		t, err := inARow(row, func() error { return s.towline(ctx, "pull", "-q", ref) })
		if err != nil {
			return err
		}
		if i > 0 {
			docker.add(1000 * d)
			api.add(1000 * a)
			cli.add(1000 * t)
			apiRatio.add(d / a)
			cliRatio.add(d / t)
		}
	}
	fmt.Printf("warm, %d rounds of 10 in a row: docker pull %v ms, towline API %v ms, towline pull %v ms\n", n, docker, api, cli)
	fmt.Printf("      docker pull takes %v times as long as the API, %v times as long as towline pull\n", apiRatio, cliRatio)
	return s.engine.RemoveImage(ctx, ref)
}
