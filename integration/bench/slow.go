package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/towline/towline/integration/lab"
)

const (
	// atATime is how many layers the engine downloads at a time.
	atATime = 20
	// layerSize is what a layer of a slow image has. Debian's engine tells of a
	// layer when it has one in a hundred more of it, ten times a second at most.
	layerSize = 1 << 20
	// heldAt is where layers stop until the readers are there. What is smaller,
	// as the image's config, comes whole.
	heldAt = 16 << 10
	// attachWithin is how long readers may take until they get something.
	attachWithin = 90 * time.Second
)

// slow is an image whose pull takes its time, and can be held.
type slow struct {
	*site
	ref    string
	layers int
	rate   int64 // bytes a second of a layer
}

// slow pushes an image each layer of which takes a time to download.
func (s *site) slow(ctx context.Context, seed int64, layers int, takes time.Duration) (*slow, error) {
	ref, err := s.push(ctx, seed, layers, layerSize)
	return &slow{s, ref, layers, int64(layerSize / takes.Seconds())}, err
}

// hold has the next pull stop soon after its beginning.
func (i *slow) hold(ctx context.Context) (release func(), err error) {
	if err := i.engine.RemoveImage(ctx, i.ref); err != nil {
		return nil, err
	}
	i.registry.Throttle(i.rate)
	return i.registry.Hold(heldAt), nil
}

// held waits until the layers that come at a time have begun to.
func (i *slow) held(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	return lab.Poll(ctx, 10*time.Millisecond, func(context.Context) error {
		if n := i.registry.Blobs(); n < min(i.layers, atATime) {
			return fmt.Errorf("%d layers have begun", n)
		}
		return nil
	})
}

// manyReaders measures what many readers cost, on an engine that downloads many
// layers at a time.
func (s *site) manyReaders(ctx context.Context, o options) (err error) {
	limit, err := openFiles()
	if err != nil {
		return err
	}
	if most := limit - 500; o.readers > most {
		fmt.Printf("%d readers: a process may have %d files open here\n", most, limit)
		o.readers = most
	}
	flags := []string{fmt.Sprint("--max-concurrent-downloads=", atATime)}
	if s.engine, err = lab.Private(ctx, s.dir, lab.PrivateOptions{Flags: flags}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.engine.Close()) }()
	if s.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return err
	}
	defer s.registry.Close()
	for _, section := range []struct {
		name    string
		measure func(context.Context, options) error
	}{{"fan", s.fan}, {"single", s.single}, {"stopped", s.stopped}, {"flood", s.flood}} {
		if o.any(section.name) {
			if failed := section.measure(ctx, o); failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", section.name, failed))
			}
		}
	}
	return err
}

// createImage is the engine's own request for a pull.
func createImage(ref string) string {
	return "POST /images/create?fromImage=" + url.QueryEscape(ref) + " HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n\r\n"
}
