package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
)

// patient is the configuration of a daemon whose pulls are held.
const patient = "pull: {stall_timeout: 10m}\n"

// begin has a daemon begin a job, and returns when it has nothing to tell until
// it is let go, if it is to be.
type begin func(ctx context.Context, d *lab.Towline) (job string, release func(), err error)

// viaTowline opens a window on a job of a daemon of its own. memory, which may be
// nil, is called with the daemon before there are readers, and with readers that
// get nothing.
func (s *site) viaTowline(ctx context.Context, job begin, count, stopped int, memory func(context.Context, *lab.Towline) error) (w *window, r *recording, err error) {
	dir, err := os.MkdirTemp(s.dir, "t")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	d, err := lab.StartTowline(ctx, s.bin, dir, lab.TowlineOptions{EngineHost: s.engine.Host, Config: patient})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	id, release, err := job(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	events := func(query string) string {
		return "GET /v1/jobs/" + id + "/events" + query + " HTTP/1.1\r\nHost: towline\r\nConnection: close\r\n\r\n"
	}
	if r, err = record(ctx, socketOf(d.Host), events("")); err != nil {
		return nil, nil, err
	}
	v := &watched{
		task: readersTask{
			Socket: socketOf(d.Host), Request: events(""), Count: count, Stopped: stopped, Resume: events("?since=%d"),
		},
		server: d.Pid,
		ready:  func(context.Context) error { return nil },
		engine: func() (time.Duration, error) { return lab.CPU(s.engine.Pid()) },
	}
	if memory != nil {
		if err := memory(ctx, d); err != nil {
			return nil, nil, err
		}
		v.idle = func(ctx context.Context) error { return memory(ctx, d) }
	}
	var took time.Duration
	ended := make(chan error, 1)
	v.release = func() error {
		began := time.Now()
		r.begin()
		release()
		go func() {
			err := r.end()
			took = time.Since(began)
			ended <- err
		}()
		return nil
	}
	if w, err = v.open(ctx); err != nil {
		return w, nil, err
	}
	err = <-ended
	w.pull = took
	return w, r, err
}

// begin has a daemon pull the image.
func (i *slow) begin(ctx context.Context, d *lab.Towline) (id string, release func(), err error) {
	c, err := client.New(d.Host, "")
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	if release, err = i.hold(ctx); err != nil {
		return "", nil, err
	}
	job, err := c.Submit(ctx, client.PullRequest{Image: i.ref})
	if err == nil {
		err = i.held(ctx)
	}
	if err != nil {
		release()
	}
	return job.ID, release, err
}

// viaNaive opens a window on a pull that a naive handler tells of.
func (i *slow) viaNaive(ctx context.Context, count int) (w *window, err error) {
	release, err := i.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	socket := filepath.Join(i.dir, "naive.sock")
	os.Remove(socket)
	c, err := startChild(ctx, "naive", naiveTask{Engine: i.engine.Host, Listen: socket, Image: i.ref})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	var ready bool
	if err := c.answer(&ready); err != nil {
		return nil, err
	}
	v := &watched{
		task:    readersTask{Socket: socket, Request: "GET / HTTP/1.1\r\nHost: naive\r\nConnection: close\r\n\r\n", Count: count, Lossy: true},
		server:  c.pid(),
		ready:   i.held,
		release: func() error { release(); return nil },
	}
	return v.open(ctx)
}

// viaDocker opens a window on a pull that all readers ask the engine for.
func (i *slow) viaDocker(ctx context.Context, count int) (*window, error) {
	release, err := i.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	v := &watched{
		task:    readersTask{Socket: socketOf(i.engine.Host), Request: createImage(i.ref), Count: count, Docker: true},
		server:  i.engine.Pid(),
		ready:   i.held,
		release: func() error { release(); return nil },
	}
	return v.open(ctx)
}

// viaReplay opens a window on a loop that writes what was recorded.
func (s *site) viaReplay(ctx context.Context, count int, r *recording) (w *window, err error) {
	socket := filepath.Join(s.dir, "replay.sock")
	os.Remove(socket)
	c, err := startChild(ctx, "replay", replayTask{Listen: socket, Readers: count, Head: r.head, Pieces: r.pieces})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	var ready bool
	if err := c.answer(&ready); err != nil {
		return nil, err
	}
	v := &watched{
		task:    readersTask{Socket: socket, Request: "GET / HTTP/1.1\r\nHost: replay\r\n\r\n", Count: count},
		server:  c.pid(),
		ready:   func(context.Context) error { return nil },
		release: func() error { return c.order("go") },
	}
	return v.open(ctx)
}
