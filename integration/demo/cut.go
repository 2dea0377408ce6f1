package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/towline/towline/integration/lab"
)

// falseSuccess pulls an image through something in front of the engine that ends each
// pull's stream early, as a proxy or a balancer may: HTTP says that all went well.
// Towline must not.
func falseSuccess(ctx context.Context, engine *lab.Engine, bin, ref string, say, logf func(string, ...any)) error {
	if err := engine.RemoveImage(ctx, ref); err != nil {
		return err
	}
	say("The image is removed, and pulled through a proxy that cuts the engine's stream short")
	address, stop, err := cutPulls(engine.Host)
	if err != nil {
		return err
	}
	defer stop()
	name, tag := ref[:strings.LastIndex(ref, ":")], ref[strings.LastIndex(ref, ":")+1:]
	query := url.Values{"fromImage": {name}, "tag": {tag}}
	resp, err := http.Post("http://"+address+"/images/create?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("the proxy's answer is to end as one that is whole: %w", err)
	}
	logf("A client of Docker's API sees %s and %d bytes that end as they should. There is no sign of a failure", resp.Status, n)

	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	daemon, err := lab.StartTowline(ctx, bin, dir, lab.TowlineOptions{EngineHost: "tcp://" + address})
	if err != nil {
		return err
	}
	defer daemon.Stop()
	cmd := exec.CommandContext(ctx, bin, "--host", daemon.Host, "pull", "--retries", "0", ref)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	var failed *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &failed) || failed.ExitCode() != 4 {
		return fmt.Errorf("towline pull did not refuse it with exit code 4: %w", err)
	}
	logf("towline pull: exit code 4: the image is not there, and another try may succeed")
	return nil
}

// cutPulls serves an engine's API, but for the end of each pull's stream.
func cutPulls(host string) (address string, stop func(), err error) {
	network, path, _ := strings.Cut(host, "://")
	if network != "unix" {
		network = "tcp"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, path)
	}}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport:     transport,
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if strings.HasSuffix(r.Request.URL.Path, "/images/create") {
				const most = 150 // bytes, of some thousand
				r.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(r.Body, most), r.Body}
			}
			return nil
		},
	}
	server := &http.Server{Handler: proxy}
	go server.Serve(l)
	return l.Addr().String(), func() { server.Close(); transport.CloseIdleConnections() }, nil
}
