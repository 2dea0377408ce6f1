package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// round is one peer's turn.
type round struct {
	dir     string
	engine  *lab.Engine
	refs    []string
	images  []image
	link    *lab.Link    // nil: none
	towline *lab.Towline // nil: none
	job     puller.Job
}

// measurement is what a round gave.
type measurement struct {
	seconds     float64
	sent        float64 // bytes of blobs that the registry sent, for a byte of the images
	twice       int     // blobs that it sent more than once
	connections int     // at a time, at most
	engineCPU   float64 // seconds, with that of the processes that unpack layers
	benchCPU    float64 // seconds of the registry and the link, which are in this process
	towline     *towlineUse
}

// towlineUse is what Towline takes.
type towlineUse struct {
	cpu  float64 // seconds
	peak float64 // MB resident
	disk float64 // MB that it keeps
	ways string
}

// take has a peer pull the images, with nothing of them there.
func (s *site) take(ctx context.Context, p peer, r round) (m measurement, err error) {
	r.engine = p.engine(s)
	if err := empty(ctx, r.engine, r.refs); err != nil {
		return m, err
	}
	if r.dir, err = os.MkdirTemp(s.dir, "r"); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if p.prepare != nil {
		if err := p.prepare(ctx, s, &r); err != nil {
			return m, err
		}
	}
	if r.towline != nil {
		defer r.towline.Stop()
	}
	s.registry.ResetCounts()
	if s.events != "" {
		end, err := s.keepRequests(p.name)
		if err != nil {
			return m, err
		}
		defer end()
		if end, err = s.keepTimeline(ctx, r); err != nil {
			return m, err
		}
		defer end()
	}
	if r.link != nil {
		r.link.Connections()
	}
	engine, err := lab.TreeCPU(r.engine.Pid())
	if err != nil {
		return m, err
	}
	own, err := lab.CPU(os.Getpid())
	if err != nil {
		return m, err
	}
	began := time.Now()
	if err := p.pull(ctx, s, &r); err != nil {
		return m, err
	}
	m.seconds = time.Since(began).Seconds()
	after, err := lab.TreeCPU(r.engine.Pid())
	m.engineCPU = (after - engine).Seconds()
	if err != nil {
		return m, err
	}
	after, err = lab.CPU(os.Getpid())
	m.benchCPU = (after - own).Seconds()
	if err == nil {
		err = r.check(ctx)
	}
	if err == nil {
		err = s.counts(&m, r)
	}
	if err == nil && r.towline != nil {
		m.towline, err = r.used(ctx)
	}
	return m, err
}

// keepRequests writes the requests that reach the registry to a file.
func (s *site) keepRequests(peer string) (end func(), err error) {
	f, err := os.CreateTemp(s.events, time.Now().Format("150405-*.requests"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(f, peer)
	var writing sync.Mutex
	s.registry.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		writing.Lock()
		defer writing.Unlock()
		fmt.Fprintln(f, time.Now().UTC().Format("15:04:05.000"), r.RemoteAddr, r.Method, r.URL, r.Header.Get("Range"), r.UserAgent())
		return false
	})
	return func() {
		s.registry.Intercept(nil)
		writing.Lock()
		defer writing.Unlock()
		f.Close()
	}, nil
}

// check looks whether the engine has the images.
func (r *round) check(ctx context.Context) error {
	for n, ref := range r.refs {
		if id, err := r.engine.ImageID(ctx, ref); err != nil || id != r.images[n].id {
			return errors.Join(err, fmt.Errorf("the engine has %q under %s, not %s", id, ref, r.images[n].id))
		}
	}
	return nil
}

// counts takes up what the registry and the link have seen.
func (s *site) counts(m *measurement, r round) error {
	want, total := sizes(r.images)
	var sent int64
	got := s.registry.Counts().BlobBytes
	for digest, size := range want {
		if got[digest] < size {
			return fmt.Errorf("the registry sent %d bytes of %s, which has %d: the engine had it already", got[digest], digest, size)
		}
		if got[digest] > size {
			m.twice++
		}
		sent += got[digest]
	}
	m.sent = float64(sent) / float64(total)
	if r.link != nil {
		_, m.connections = r.link.Connections()
	}
	return nil
}

func (r *round) used(ctx context.Context) (*towlineUse, error) {
	cpu, err := lab.CPU(r.towline.Pid)
	if err != nil {
		return nil, err
	}
	peak, err := lab.PeakResident(r.towline.Pid)
	if err != nil {
		return nil, err
	}
	var disk int64
	err = filepath.WalkDir(filepath.Join(r.dir, "state"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			disk += info.Size()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	how, err := ways(ctx, r)
	return &towlineUse{cpu.Seconds(), float64(peak) / mb, float64(disk) / mb, how}, err
}
