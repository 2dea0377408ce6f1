package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// presentCalls is how many calls of each kind are measured.
const presentCalls = 2000

// present compares a pull of an image that is there with a call that does nothing, one
// after the other on one connection.
func present(ctx context.Context, s *site, images []image) (err error) {
	r := round{images: images, engine: s.engine, refs: []string{s.registry.Ref(images[0].repo, "v1")}}
	if r.dir, err = os.MkdirTemp(s.dir, "r"); err != nil {
		return err
	}
	if err := startTowline(ctx, s, &r); err != nil {
		return err
	}
	defer r.towline.Stop()
	socket := strings.TrimPrefix(r.towline.Host, "unix://")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	call := func(method, path string, body []byte) (time.Duration, error) {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, method, "http://towline"+path, bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return time.Since(began), err
	}
	body := fmt.Appendf(nil, `{"image":%q}`, r.refs[0])
	if _, err := call(http.MethodPost, "/v1/pulls?wait=true", body); err != nil {
		return err
	}
	var pulls, health []time.Duration
	for range presentCalls {
		p, err := call(http.MethodPost, "/v1/pulls?wait=true", body)
		if err != nil {
			return err
		}
		h, err := call(http.MethodGet, "/healthz", nil)
		if err != nil {
			return err
		}
		pulls, health = append(pulls, p), append(health, h)
	}
	slices.Sort(pulls)
	slices.Sort(health)
	at := func(all []time.Duration, part int) float64 {
		return float64(all[len(all)*part/100].Microseconds()) / 1000
	}
	fmt.Printf("%d calls of each: POST /v1/pulls?wait=true p50 %.2f ms, p99 %.2f ms; GET /healthz p50 %.2f ms, p99 %.2f ms; p50 differs by %.2f ms\n",
		presentCalls, at(pulls, 50), at(pulls, 99), at(health, 50), at(health, 99), at(pulls, 50)-at(health, 50))
	return empty(ctx, s.engine, r.refs)
}
