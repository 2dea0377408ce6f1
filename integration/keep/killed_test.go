package keep_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// killer stands between a daemon and its engine, and kills the daemon when it has an image
// removed.
type killer struct {
	host string
	next atomic.Pointer[killing] // with the next removal; nil for not
}

// killing is how a daemon is killed.
type killing struct {
	when string // "before", "meanwhile" or "after"
	kill func()
	done chan struct{} // closed when it has been
}

func newKiller(t *testing.T, engine string) *killer {
	t.Helper()
	socket := filepath.Join(site.dir, fmt.Sprint("killer", seeds.Add(1)))
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	k := &killer{host: "unix://" + socket}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(engine, "unix://"))
		}},
		FlushInterval: -1,
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var next *killing
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/images/") {
			next = k.next.Swap(nil)
		}
		switch {
		case next == nil:
			proxy.ServeHTTP(w, r)
		case next.when == "before":
			next.end()
		case next.when == "meanwhile":
			// The engine goes on without its client.
			proxy.ServeHTTP(hidden{w, next.end}, r.WithContext(context.WithoutCancel(r.Context())))
		default:
			proxy.ServeHTTP(w, r)
			http.NewResponseController(w).Flush()
			next.end()
		}
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return k
}

// end kills the daemon.
func (k *killing) end() {
	k.kill()
	close(k.done)
}

// hidden is an answer that comes only once the client has been killed.
type hidden struct {
	http.ResponseWriter
	kill func()
}

func (h hidden) WriteHeader(status int) {
	h.kill()
	h.ResponseWriter.WriteHeader(status)
}

// Whenever a daemon is killed, each image that it had removed is told once.
func TestKilledWhileRemoving(t *testing.T) {
	const config = "keep: {collect: all, high: 90%, low: 1%, reserve: 0MiB, min_age: 0s, interval: 1h}\n"
	s := newSmall(t, config)
	k := newKiller(t, s.engine.Host)
	s.host = k.host
	for _, when := range []string{"before", "meanwhile", "after"} {
		t.Run(when, func(t *testing.T) {
			var refs, ids []string
			for n := range 3 {
				ref := s.publish(fmt.Sprint(when, n), 8) // more than keep.low
				if err := s.pull(ref, puller.PolicyMissing); err != nil {
					t.Fatal(err)
				}
				id, err := s.engine.ImageID(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				refs, ids = append(refs, ref), append(ids, id)
			}
			if err := s.towline.Stop(); err != nil { // what it knows is on disk
				t.Fatal(err)
			}
			s.client.Close()
			s.start(config)
			next := &killing{when, s.towline.Kill, make(chan struct{})}
			k.next.Store(next)
			if _, err := s.client.Images().Collect(t.Context(), false); err == nil {
				t.Error("the daemon was killed, and the call was answered")
			}
			<-next.done
			if gone := !s.has(refs[0]); gone == (when == "before") {
				t.Errorf("the first image has gone: %t", gone)
			}
			s.client.Close()
			for range 2 { // it is not told by each start
				s.start(config)
				if err := lab.Poll(t.Context(), 10*time.Millisecond, func(context.Context) error { return s.told(ids) }); err != nil {
					t.Fatal(err)
				}
				if err := s.towline.Stop(); err != nil {
					t.Fatal(err)
				}
				s.client.Close()
			}
			s.start(config)
			if _, err := s.client.Images().Collect(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if err := s.told(ids); err != nil {
				t.Error(err)
			}
			if slices.ContainsFunc(refs, s.has) {
				t.Error("the next collection has left some of them")
			}
		})
	}
}

// told returns in what the events of removals are not what the engine has.
func (s *small) told(ids []string) error {
	page, _, err := s.client.Images().History(s.Context(), keep.HistoryFilter{Limit: 1000})
	if err != nil {
		return err
	}
	for _, id := range ids {
		told, want := 0, 1
		for _, e := range page {
			if e.Image.ID == id && e.Image.Action == puller.ImageRemoved {
				told++
			}
		}
		if s.has(id) {
			want = 0
		}
		if told != want {
			return fmt.Errorf("%s is told as removed %d times, not %d", id, told, want)
		}
	}
	return nil
}
