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
	"github.com/towline/towline/puller/jobs"
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
		var flushes, http, lists, inside, most, httpRatio, listsRatio, insideRatio, share, waiting spread
		for i := range runs + 1 {
			dir := filepath.Join(d.dir, fmt.Sprint("accept", i))
			r, err := s.acceptOnce(ctx, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			if i == 0 { // it only warms caches
				continue
			}
			flushes.add(r.flushes)
			http.add(r.http)
			lists.add(r.lists)
			inside.add(r.inside)
			most.add(r.most)
			waiting.add(r.waiting)
			share.add(r.http / r.most)
			httpRatio.add(r.http / r.flushes)
			listsRatio.add(r.lists / r.flushes)
			insideRatio.add(r.inside / r.flushes)
		}
		fmt.Printf("accepted jobs, %d clients, %s, %d runs: fsync %v/s; over HTTP one by one %v/s, in prewarms of %d %v/s; in one process one by one %v/s\n",
			clients, d.name, runs, flushes, http, list, lists, inside)
		fmt.Printf("      that is for an fsync %v jobs over HTTP one by one, %v in prewarms; %v in one process\n", httpRatio, listsRatio, insideRatio)
		fmt.Printf("      the same requests, answered by a handler that only decodes them: %v/s; jobs one by one are %v of that\n", most, share)
		fmt.Printf("      the daemon's memory with the jobs of %d prewarms, which all wait: %v MiB\n", enough/list, waiting)
	}
	return nil
}

// accepted is what a run has measured, by the second.
type accepted struct {
	flushes, http, lists, inside, most float64
	waiting                            float64 // MiB that the daemon takes with all those in lists
}

// acceptOnce measures the disk before and after what it keeps: how fast it is
// changes.
func (s *site) acceptOnce(ctx context.Context, dir string) (r accepted, err error) {
	for _, d := range []string{"h", "l", "i"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return r, err
		}
	}
	defer os.RemoveAll(dir)
	before, err := fsyncs(dir)
	if err != nil {
		return r, err
	}
	if r.http, _, err = s.acceptHTTP(ctx, filepath.Join(dir, "h"), 1); err != nil {
		return r, err
	}
	if r.lists, r.waiting, err = s.acceptHTTP(ctx, filepath.Join(dir, "l"), list); err != nil {
		return r, err
	}
	if r.inside, err = acceptInside(ctx, filepath.Join(dir, "i")); err != nil {
		return r, err
	}
	after, err := fsyncs(dir)
	if err != nil {
		return r, err
	}
	r.flushes = (before + after) / 2
	r.most, err = ceiling(ctx, dir)
	return r, err
}

// acceptHTTP measures a daemon, from this process, with so many jobs a request. It
// also returns how many MiB the daemon takes in the end.
func (s *site) acceptHTTP(ctx context.Context, dir string, jobs int) (persec, mib float64, err error) {
	d, err := lab.StartTowline(ctx, s.bin, dir, lab.TowlineOptions{EngineHost: noEngine(dir), EngineDown: true, Env: []string{"TOWLINE_LIMITS_JOBS=20000"}})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if persec, err = overHTTP(ctx, socketOf(d.Host), jobs); err != nil {
		return 0, 0, err
	}
	bytes, err := lab.Resident(d.Pid)
	return persec, float64(bytes) / (1 << 20), err
}

// overHTTP measures the daemon that listens on a socket, with so many jobs a request.
func overHTTP(ctx context.Context, socket string, jobs int) (_ float64, err error) {
	var callers [clients]*caller
	for i := range callers {
		if callers[i], err = dial(socket); err != nil {
			return 0, err
		}
		defer callers[i].conn.Close()
	}
	return rate(ctx, jobs, func(_ context.Context, client, n int) error {
		if jobs == 1 {
			return callers[client].submit(n)
		}
		return callers[client].prewarm(n, jobs)
	})
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
	store, err := bolt.Open(context.Background(), dir, bolt.Options{Log: silent})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	p, err := jobs.New(engine, jobs.Options{
		Concurrency: 8, PerRegistry: 6, Policy: puller.PolicyMissing, Retries: 3, Timeout: 30 * time.Minute,
		FirstByteTimeout: time.Minute, Store: store, Log: silent,
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	return rate(ctx, 1, func(_ context.Context, _, n int) error {
		_, err := p.Pull(puller.PullRequest{Image: imageOf(n)})
		return err
	})
}

func noEngine(dir string) string { return "unix://" + filepath.Join(dir, "none.sock") }
