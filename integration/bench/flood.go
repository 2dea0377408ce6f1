package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/towline/towline/integration/lab"
)

// flood asks one daemon for one image many times at once, each with a stream of
// its own job's events, and counts what the engine and the registry were asked.
func (s *site) flood(ctx context.Context, o options) error {
	image, err := s.slow(ctx, 13, 4, 2*time.Second)
	if err != nil {
		return err
	}
	one, err := image.asked(ctx, 1)
	if err != nil {
		return err
	}
	all, err := image.asked(ctx, o.readers)
	if err != nil {
		return err
	}
	fmt.Printf("%d requests for one image at once: all had the answer %.3g s after it was let go; as one request, and as all of them, made:\n", all.attached.Readers, all.Seconds)
	fmt.Printf("      the engine pull %d, %d times, and the registry answer %d, %d manifests, %d, %d blobs, none of them twice\n",
		one.pulls, all.pulls, one.counts.ManifestGets+one.counts.ManifestHeads, all.counts.ManifestGets+all.counts.ManifestHeads, one.counts.BlobGets, all.counts.BlobGets)
	if all.pulls != 1 {
		return fmt.Errorf("the engine pulled %d times", all.pulls)
	}
	for what, n := range all.counts.ByPath {
		if n != one.counts.ByPath[what] || strings.Contains(what, "/blobs/") && n != 1 {
			return fmt.Errorf("%s: %d times, and %d times for one request", what, n, one.counts.ByPath[what])
		}
	}
	if all.attached.Readers != o.readers {
		return fmt.Errorf("%d requests of %d were answered", all.attached.Readers, o.readers)
	}
	return image.engine.RemoveImage(ctx, image.ref)
}

// demand is what an image that was asked for was brought with.
type demand struct {
	*window
	counts lab.Counts
	pulls  int
}

// asked asks a daemon of its own for the image, so many times at once.
func (i *slow) asked(ctx context.Context, times int) (_ *demand, err error) {
	dir, err := os.MkdirTemp(i.dir, "t")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	d, err := lab.StartTowline(ctx, i.bin, dir, lab.TowlineOptions{EngineHost: i.engine.Host, Config: patient})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	release, err := i.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	i.registry.ResetCounts()
	began := time.Now()
	body := fmt.Sprintf(`{"image":%q}`, i.ref)
	v := &watched{
		task: readersTask{
			Socket: socketOf(d.Host), Count: times,
			Request: fmt.Sprintf("POST /v1/pulls HTTP/1.1\r\nHost: towline\r\nConnection: close\r\nAccept: application/x-ndjson\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		},
		server:  d.Pid,
		ready:   i.held,
		release: func() error { release(); return nil },
	}
	a := &demand{}
	if a.window, err = v.open(ctx); err != nil {
		return nil, err
	}
	a.counts = i.registry.Counts()
	a.pulls, err = pulls(ctx, i.engine, began)
	return a, err
}

// pulls returns how many pulls an engine has ended well since a time.
func pulls(ctx context.Context, e *lab.Engine, since time.Time) (int, error) {
	stamp := func(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
	query := url.Values{"since": {stamp(since)}, "until": {stamp(time.Now())}, "filters": {`{"type":["image"],"event":["pull"]}`}}
	resp, err := e.Do(ctx, http.MethodGet, "/events?"+query.Encode(), nil, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for n, events := 0, json.NewDecoder(resp.Body); ; n++ {
		var event struct{}
		if err := events.Decode(&event); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
	}
}
