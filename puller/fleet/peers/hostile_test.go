package peers_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/token"
	"github.com/towline/towline/puller/fleet/peers/tree"
)

// hostile adds hosts to a cluster that answer as a test says. Manifests they give, but in tests of these.
func (c *cluster) hostile(t *testing.T, others int, answer http.HandlerFunc) *machine {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := strings.CutPrefix(r.URL.Path, "/v1/manifests/"); ok && !strings.HasSuffix(t.Name(), "manifest") {
			w.Write(c.manifests[id])
			return
		}
		answer(w, r)
	}))
	s.Listener = c.memory.listen("evil:80")
	s.Start()
	t.Cleanup(s.Close)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range others {
		c.members = append(c.members, fleet.Member{Host: fmt.Sprintf("evil-%d", i), Zone: "0", Address: s.Listener.Addr().String()})
	}
	return c.all[0]
}

func TestHostile(t *testing.T) {
	type answers = http.HandlerFunc
	// ok answers as a host does that has all of a chunk.
	head := func(w http.ResponseWriter, r *http.Request, there string) {
		w.Header().Set("Towline-From", r.FormValue("from"))
		w.Header().Set("Towline-There", there)
	}
	hang := func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	lies := []string{"partial", "no_content", "fails", "redirects", "other_range", "no_range", "too_much", "endless", "zeros", "encodes", "hangs", "hangs_after", "cuts", "trickles", "wrong_manifest", "long_manifest"}
	for what, answer := range map[string]answers{
		"refuses": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"forbids": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"busy":    func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"waits":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) },
		"empty":   func(w http.ResponseWriter, r *http.Request) { head(w, r, "65536") },
		"partial": func(w http.ResponseWriter, r *http.Request) {
			head(w, r, "65536")
			w.Header().Set("Content-Range", "bytes 0-9/100")
			w.WriteHeader(http.StatusPartialContent)
		},
		"no_content":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"closes":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"fails":       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"redirects":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no_head":     func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"hangs":       hang,
		"hangs_after": func(w http.ResponseWriter, r *http.Request) { head(w, r, "65536"); w.Write([]byte("some")); hang(w, r) },
		"cuts": func(w http.ResponseWriter, r *http.Request) {
			head(w, r, "65536")
			w.Write([]byte("some"))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"trickles": func(w http.ResponseWriter, r *http.Request) {
			head(w, r, "1")
			for r.Context().Err() == nil {
				w.Write([]byte("a"))
				http.NewResponseController(w).Flush()
				wait(r.Context(), 100*time.Millisecond)
			}
		},
		"other_range": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Towline-From", "1")
			w.Header().Set("Towline-There", "9")
		},
		"no_range": func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 65536)) },
		"too_much": func(w http.ResponseWriter, r *http.Request) { head(w, r, "65536"); w.Write(make([]byte, 1<<20)) },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			head(w, r, "99999999999999")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"zeros":          func(w http.ResponseWriter, r *http.Request) { head(w, r, "65536"); w.Write(make([]byte, span(r))) },
		"wrong_manifest": func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("{}")) },
		"long_manifest":  func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 5<<20)) },
		"cut_manifest": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "500")
			w.Write([]byte("{"))
		},
		"encodes": func(w http.ResponseWriter, r *http.Request) {
			head(w, r, "65536")
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte{0x1f, 0x8b, 8, 0, 0})
		},
	} {
		bubble(t, what, func(t *testing.T) {
			r := newRegistry(5*chunkSize+9, 3*chunkSize)
			c := newCluster(t, r, 1, 1)
			m := c.hostile(t, 3, answer)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			if err := m.pull(ctx); err != nil {
				t.Fatal(err)
			}
			t.Logf("it took %s", time.Since(began))
			if took := time.Since(began); took > 90*time.Second {
				t.Errorf("it took %s", took)
			}
			if m.metric("fallbacks_total") == 0 {
				t.Error("no fallback was counted")
			}
			if seen := m.metric("bad_chunks_total") > 0; seen != slices.Contains(lies, what) {
				t.Errorf("a lie was seen: %v", seen)
			}
		})
	}
}

// ended is a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// span is how many bytes a request asks for.
func span(r *http.Request) int {
	var from, to int
	fmt.Sscan(r.FormValue("from"), &from)
	fmt.Sscan(r.FormValue("to"), &to)
	return to - from
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// A host gives wrong bytes of chunks, and says that they are right.
func TestWrongBytes(t *testing.T) {
	bubble(t, "repaired", func(t *testing.T) {
		r := newRegistry(8*chunkSize, 3*chunkSize)
		c := newCluster(t, r, 6, 1)
		first := c.all[:5]
		if err := pullAll(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		// One of them has other bytes on its disk than it has proven.
		last, layer := c.all[5], r.order[1]
		gives := make(map[string][]int) // chunks to the last one
		b, err := last.use(layer)
		if err != nil {
			t.Fatal(err)
		}
		for index := range 8 {
			if _, there := b.Await(ended(), int64(index)*chunkSize); there == nil {
				continue // another one has asked for it
			}
			if p, ok := tree.Parent(c.members, last.name, tree.Seed(layer, index), func(string) bool { return false }); ok {
				gives[p.Host] = append(gives[p.Host], index)
			}
		}
		evil := first[0]
		for _, m := range first {
			if len(gives[m.name]) > len(gives[evil.name]) {
				evil = m
			}
		}
		bad := gives[evil.name]
		for _, index := range bad {
			evil.damage(t, layer, int64(index)*chunkSize+3)
		}
		before, _ := c.figures()
		if err := last.pull(t.Context()); err != nil {
			t.Fatal(err)
		}
		after, _ := c.figures()
		if after != before {
			t.Errorf("the registry has sent %d bytes more", after-before)
		}
		_, told := last.taken()
		if got := last.metric("bad_chunks_total"); int(got) != len(bad) || len(told) != 1 || !strings.HasPrefix(told[0], fmt.Sprintf("%s gave wrong bytes of %s (%d chunks: ", evil.name, layer, len(bad))) {
			t.Errorf("%v bad chunks of %d, and people are told %q", got, len(bad), told)
		}
	})
	bubble(t, "from_the_registry", func(t *testing.T) {
		// All others have the same wrong bytes: no sums help.
		r := newRegistry(8 * chunkSize)
		c := newCluster(t, r, 3, 1)
		if err := pullAll(t.Context(), c.all[:2]); err != nil {
			t.Fatal(err)
		}
		for _, m := range c.all[:2] {
			for index := range 8 {
				m.damage(t, r.order[1], int64(index)*chunkSize)
			}
		}
		if err := c.all[2].pull(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, told := c.all[2].taken(); len(told) < 2 || !strings.Contains(told[0], "all of it comes from the registry") || !strings.Contains(told[1], "gave wrong bytes") {
			t.Errorf("people are told %q", told)
		}
	})
}

// A host gives wrong bytes, and lies about their sums too: nobody believes it for long.
func TestLyingSums(t *testing.T) {
	for what, sums := range map[string]func(chunks int) []byte{
		"of_nothing": func(chunks int) []byte { return make([]byte, 32*chunks) },
		"too_few":    func(int) []byte { return []byte("some") },
		"endless":    func(int) []byte { return make([]byte, 1<<20) },
		"of_zeros": func(chunks int) (all []byte) {
			for range chunks {
				sum := sha256.Sum256(make([]byte, chunkSize))
				all = append(all, sum[:]...)
			}
			return all
		},
	} {
		bubble(t, what, func(t *testing.T) {
			r := newRegistry(8 * chunkSize)
			c := newCluster(t, r, 3, 1)
			if err := pullAll(t.Context(), c.all[1:]); err != nil {
				t.Fatal(err)
			}
			before, _ := r.figures()
			c.hostile(t, 2, func(w http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.URL.Path, "/v2/sums/") {
					w.Write(sums(8))
					return
				}
				w.Header().Set("Towline-From", req.FormValue("from"))
				w.Header().Set("Towline-There", "65536")
				w.Write(make([]byte, span(req)))
			})
			m := c.all[0]
			if err := m.pull(t.Context()); err != nil {
				t.Fatal(err)
			}
			if m.metric("bad_chunks_total") == 0 {
				t.Error("no host was blamed")
			}
			if after, _ := r.figures(); after-before > 2*r.size() {
				t.Errorf("the registry has sent %d bytes more of %d", after-before, r.size())
			}
		})
	}
}

// Nobody else is there.
func TestAlone(t *testing.T) {
	for what, others := range map[string]int{"group_of_one": 0, "all_gone": 5} {
		bubble(t, what, func(t *testing.T) {
			r := newRegistry(20 * chunkSize)
			c := newCluster(t, r, 1, 1)
			for i := range others {
				c.members = append(c.members, fleet.Member{Host: fmt.Sprint("gone-", i), Zone: "0", Address: "gone:80"})
			}
			m := c.all[0]
			if m.Shares(r.image()) != (others > 0) {
				t.Errorf("the image is shared: %v", others == 0)
			}
			began := time.Now()
			if err := m.pull(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %s", took)
			}
			c.check(t, 1)
		})
	}
}

// One host asks for more at a time than it may, and the others still get what they ask for.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(4 * chunkSize)
		r.limiter = rate.NewLimiter(1, 1) // it brings nothing
		c := newCluster(t, r, 2, 1)
		c.members = c.members[:1] // so that each chunk is this host's to bring
		m := c.all[0]
		g, _ := m.Group(r.repository, r.index)
		client := &http.Transport{DialContext: c.memory.dial, DisableKeepAlives: true}
		defer client.CloseIdleConnections()
		ask := func(host string) int {
			req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.address+"/v2/chunks/"+r.order[1]+"/1?from=65536&to=65546", nil))
			for name, value := range map[string]string{
				"Authorization": token.Header(g, host, r.order[1]), "Towline-Set": "set", "Towline-Generation": "7", "Towline-Host": host,
				"Towline-Repository": r.repository, "Towline-Image": r.index, "Towline-Manifest": r.manifest,
			} {
				req.Header.Set(name, value)
			}
			resp, err := client.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		statuses := make(chan int)
		const many = 100
		for range many {
			go func() { statuses <- ask("flood") }()
		}
		synctest.Wait()
		if status := ask("host-1"); status != http.StatusAccepted {
			t.Errorf("another host was answered %d", status)
		}
		seen := make(map[int]int)
		for range many {
			seen[<-statuses]++
		}
		if seen[http.StatusServiceUnavailable] < many/2 || seen[http.StatusAccepted] == 0 || len(seen) != 2 {
			t.Errorf("it was answered %v", seen)
		}
	})
}

func TestServer(t *testing.T) {
	r := newRegistry(2*chunkSize + 100)
	c := newClusterOn(t, nil, r, 2, 1)
	m := c.all[0]
	if err := m.pull(t.Context()); err != nil {
		t.Fatal(err)
	}
	layer := r.order[1]
	g, _ := m.Group(r.repository, r.index)
	ask := func(t *testing.T, path string, change func(http.Header)) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		of := strings.Split(path, "/")[3]
		of, _, _ = strings.Cut(of, "?")
		for name, value := range map[string]string{
			"Authorization": token.Header(g, "host-1", of), "Towline-Set": "set", "Towline-Generation": "7", "Towline-Host": "host-1",
			"Towline-Repository": r.repository, "Towline-Image": r.index, "Towline-Manifest": r.manifest,
		} {
			req.Header.Set(name, value)
		}
		if change != nil {
			change(req.Header)
		}
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	chunk := "/v2/chunks/" + layer + "/1?from=65540&to=65550"
	t.Run("chunk", func(t *testing.T) {
		if status, body := ask(t, chunk, nil); status != http.StatusOK || body != string(r.blobs[layer][65540:65550]) {
			t.Errorf("%d, %q", status, body)
		}
	})
	t.Run("manifest", func(t *testing.T) {
		for _, id := range []string{r.index, r.manifest} {
			if status, body := ask(t, "/v1/manifests/"+id, nil); status != http.StatusOK || body != string(r.manifests[id]) {
				t.Errorf("%d, %q", status, body)
			}
		}
	})
	t.Run("sums", func(t *testing.T) {
		if status, body := ask(t, "/v2/sums/"+layer, nil); status != http.StatusOK || len(body) != 3*32 {
			t.Errorf("%d, %d bytes", status, len(body))
		}
	})
	other := digest.FromString("other").String()
	set := func(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }
	for what, q := range map[string]struct {
		path   string
		change func(http.Header)
		status int
	}{
		"no_token":        {chunk, set("Authorization", ""), http.StatusForbidden},
		"token_of_host":   {chunk, set("Authorization", token.Header(g, "host-2", layer)), http.StatusForbidden},
		"token_of_digest": {chunk, set("Authorization", token.Header(g, "host-1", r.index)), http.StatusForbidden},
		"token_without":   {chunk, set("Authorization", token.Header(fleet.Group{Set: "set", Generation: 7}, "host-1", layer)), http.StatusForbidden},
		"other_set":       {chunk, set("Towline-Set", "other"), http.StatusForbidden},
		"old_generation":  {chunk, set("Towline-Generation", "6"), http.StatusForbidden},
		"other_image":     {chunk, set("Towline-Image", other), http.StatusForbidden},
		"other_manifest":  {chunk, set("Towline-Manifest", other), http.StatusNotFound},
		"no_host":         {chunk, set("Towline-Host", "a/b"), http.StatusBadRequest},
		"bad_generation":  {chunk, set("Towline-Generation", "-1"), http.StatusBadRequest},
		"unlisted_blob":   {"/v2/chunks/" + other + "/0?from=0&to=1", nil, http.StatusNotFound},
		"unlisted":        {"/v1/manifests/" + other, nil, http.StatusNotFound},
		"other_version":   {"/v1/chunks/" + layer + "/1?from=65540&to=65550", nil, http.StatusNotFound},
		"no_digest":       {"/v2/chunks/sha256:00/0?from=0&to=1", nil, http.StatusBadRequest},
		"past_the_end":    {"/v2/chunks/" + layer + "/3?from=196608&to=196609", nil, http.StatusBadRequest},
		"other_chunk":     {"/v2/chunks/" + layer + "/1?from=0&to=10", nil, http.StatusBadRequest},
		"no_range":        {"/v2/chunks/" + layer + "/1", nil, http.StatusBadRequest},
		"empty_range":     {"/v2/chunks/" + layer + "/1?from=65540&to=65540", nil, http.StatusBadRequest},
		"index":           {"/v2/chunks/" + layer + "/-1?from=0&to=1", nil, http.StatusBadRequest},
	} {
		t.Run(what, func(t *testing.T) {
			if status, body := ask(t, q.path, q.change); status != q.status || len(body) > 20 {
				t.Errorf("%d, %q", status, body)
			}
		})
	}
	t.Run("counted", func(t *testing.T) {
		if m.metric("refusals_total") < 10 || m.metric("given_bytes_total") != 10 {
			t.Errorf("%v refusals, %v bytes", m.metric("refusals_total"), m.metric("given_bytes_total"))
		}
	})
	t.Run("method", func(t *testing.T) {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(must(http.NewRequest(http.MethodPut, "http://"+m.address+chunk, strings.NewReader("x"))))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Error(resp.Status)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
