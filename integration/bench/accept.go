package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/docker"
)

// accept measures how many jobs a second are accepted, each on disk before it
// is answered, against how often that disk can flush. Nothing is pulled: no
// engine answers.
func (s *site) accept(ctx context.Context, runs int) error {
	all, unmount, err := disks(ctx, s.dir)
	if err != nil {
		return err
	}
	defer unmount()
	for _, d := range all {
		var flushes, http, inside, most, httpRatio, insideRatio, share spread
		for i := range runs + 1 {
			dir := filepath.Join(d.dir, fmt.Sprint("accept", i))
			f, h, n, c, err := s.acceptOnce(ctx, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			if i == 0 { // it only warms caches
				continue
			}
			flushes.add(f)
			http.add(h)
			inside.add(n)
			most.add(c)
			share.add(h / c)
			httpRatio.add(h / f)
			insideRatio.add(n / f)
		}
		fmt.Printf("accepted jobs, %d clients, %s, %d runs: fsync %v/s, over HTTP %v/s, in one process %v/s\n", clients, d.name, runs, flushes, http, inside)
		fmt.Printf("      that is %v jobs for an fsync over HTTP, %v in one process\n", httpRatio, insideRatio)
		fmt.Printf("      the same requests, answered by a handler that only decodes them: %v/s; jobs over HTTP are %v of that\n", most, share)
	}
	return nil
}

// acceptOnce measures the disk, then what it keeps, each time half before and
// half after the other: how fast it is changes.
func (s *site) acceptOnce(ctx context.Context, dir string) (flushes, http, inside, most float64, err error) {
	for _, d := range []string{"h", "i"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return 0, 0, 0, 0, err
		}
	}
	defer os.RemoveAll(dir)
	before, err := fsyncs(dir)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	if http, err = s.acceptHTTP(ctx, filepath.Join(dir, "h")); err != nil {
		return 0, 0, 0, 0, err
	}
	if inside, err = acceptInside(ctx, filepath.Join(dir, "i")); err != nil {
		return 0, 0, 0, 0, err
	}
	after, err := fsyncs(dir)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	most, err = ceiling(ctx, dir)
	return (before + after) / 2, http, inside, most, err
}

// acceptHTTP measures a daemon, from this process.
func (s *site) acceptHTTP(ctx context.Context, dir string) (_ float64, err error) {
	d, err := lab.StartTowline(ctx, s.bin, dir, lab.TowlineOptions{EngineHost: noEngine(dir), EngineDown: true, Env: []string{"TOWLINE_LIMITS_JOBS=20000"}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	return overHTTP(ctx, socketOf(d.Host))
}

// overHTTP measures whoever listens on a socket.
func overHTTP(ctx context.Context, socket string) (_ float64, err error) {
	var callers [clients]*caller
	for i := range callers {
		if callers[i], err = dial(socket); err != nil {
			return 0, err
		}
		defer callers[i].conn.Close()
	}
	return rate(ctx, func(_ context.Context, client, n int) error { return callers[client].submit(n) })
}

// acceptInside measures a Puller, without HTTP.
func acceptInside(ctx context.Context, dir string) (_ float64, err error) {
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	engine, err := docker.New(docker.Options{Host: noEngine(dir), Log: silent})
	if err != nil {
		return 0, err
	}
	defer engine.Close()
	store, err := bolt.Open(dir, silent)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	p, err := puller.New(engine, puller.Options{
		Concurrency: 8, PerRegistry: 6, Policy: puller.Missing, Retries: 3, Timeout: 30 * time.Minute,
		FirstByteTimeout: time.Minute, Store: store, Log: silent,
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	return rate(ctx, func(_ context.Context, _, n int) error {
		_, err := p.Submit(puller.PullRequest{Image: imageOf(n)})
		return err
	})
}

func noEngine(dir string) string { return "unix://" + filepath.Join(dir, "none.sock") }
