package faults_test

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// accelerated has pulls accelerated, also small ones from a registry on loopback.
const accelerated = "mirror: {mode: alias, listen: \"127.0.0.1:0\", min_size: 0MiB, chunk: 1MiB}\n"

func newMirrorRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, accelerated)
	r.idle = 24 // connections to the registry that are kept
	r.endpoint()
	return r
}

// endpoint waits until the daemon accelerates pulls, and returns where the engine reaches
// it.
func (r *rig) endpoint() (address string) {
	r.Helper()
	r.until("pulls are accelerated", func(ctx context.Context) error {
		e, err := r.client.Engine(ctx)
		if err == nil && (e.Accelerator == nil || e.Accelerator.Way != puller.WayAlias) {
			err = fmt.Errorf("%+v", e.Accelerator)
		}
		if err == nil {
			address = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(e.Accelerator.Reason)
		}
		return err
	})
	return address
}

// came checks in which way an image came. Every other way than alias has a notice.
func (r *rig) came(job puller.Job, way puller.Way) {
	r.Helper()
	if job.Result == nil || job.Result.Accelerated == nil || job.Result.Accelerated.Way != way {
		r.Errorf("it came as %+v, not by the way %s", job.Result.Accelerated, way)
		return
	}
	told := false
	for _, e := range r.notices(job.ID) {
		told = told || strings.Contains(e.Message, "the engine pulls by itself")
	}
	if told != (way == puller.WayNone) {
		r.Errorf("by the way %s with the notices %+v", way, r.notices(job.ID))
	}
}

// unaccelerated checks that an image came without the accelerator, and that the job and the
// engine tell the same reason.
func (r *rig) unaccelerated(job puller.Job, reason string) {
	r.Helper()
	e, err := r.client.Engine(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	how := job.Result.Accelerated
	if how == nil || how.Way != puller.WayNone || !strings.Contains(how.Reason, reason) || e.Accelerator.Reason != how.Reason {
		r.Errorf("%+v, and the engine's is %+v", how, e.Accelerator)
	}
}

// once checks that the registry has sent the layers of an image once, but for a part. Where
// a free connection took over from a slow one, as on a busy machine, what the slow one still
// sends is lost.
func (r *rig) once(image pushed, more float64) {
	r.Helper()
	layers, err := r.registry.Layers(r.Context(), image.ref)
	if err != nil {
		r.Fatal(err)
	}
	races, err := r.towline.Metric(r.Context(), "towline_accelerator_chunk_races_total")
	if err != nil {
		r.Fatal(err)
	}
	counts := r.registry.Counts()
	for _, digest := range layers {
		size := r.size(image, digest)
		more := more + races*float64(4<<20)/float64(size)
		if sent := counts.BlobBytes[digest]; sent < size || float64(sent) > float64(size)*(1+more) {
			r.Errorf("the registry has sent %d bytes of %s, which has %d", sent, digest, size)
		}
	}
}

// size asks the registry how large a blob is.
func (r *rig) size(image pushed, digest string) int64 {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodHead, "http://"+r.registry.Addr()+"/v2/"+image.repo+"/blobs/"+digest, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("User-Agent", "towline-lab")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	return resp.ContentLength
}

// unnamed checks that the engine has no temporary name.
func (r *rig) unnamed() {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	if left := r.aliases(ctx); left != "" {
		r.Errorf("the engine still has %s", left)
	}
}

// aliases returns the part of the engine's list of images that names one of this
// daemon's.
func (r *rig) aliases(ctx context.Context) string {
	resp, err := r.engine.Do(ctx, http.MethodGet, "/images/json", nil, nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	notes, _ := filepath.Glob(filepath.Join(r.dir, "state", "blobs", "names", "*"))
	for _, note := range notes {
		if name, err := os.ReadFile(note); err == nil && strings.Contains(string(all), string(name)) {
			return string(name)
		}
	}
	return ""
}

// ours reports whether Towline asks for a layer, and not the engine.
func ours(req *http.Request) bool {
	return req.UserAgent() == "towline" && strings.Contains(req.URL.Path, "/blobs/")
}

// What the registry does to Towline's requests, it does not do to the engine's.
func TestMirrorRegistry(t *testing.T) {
	t.Parallel()
	ranged := func(req *http.Request) bool { return ours(req) && req.Header.Get("Range") != "" }
	for name, c := range map[string]struct {
		way   puller.Way
		spoil func(n int32, w http.ResponseWriter, req *http.Request) bool // n counts Towline's requests
	}{
		"range_ignored": {puller.WayAlias, func(_ int32, _ http.ResponseWriter, req *http.Request) bool {
			req.Header.Del("Range")
			return false
		}},
		"wrong_range": {puller.WayAlias, func(_ int32, w http.ResponseWriter, req *http.Request) bool {
			if ranged(req) {
				w.Header().Set("Content-Range", "bytes 1-10/11")
				w.WriteHeader(http.StatusPartialContent)
			}
			return ranged(req)
		}},
		"range_refused": {puller.WayAlias, func(_ int32, w http.ResponseWriter, req *http.Request) bool {
			if ranged(req) {
				w.WriteHeader(http.StatusBadRequest)
			}
			return ranged(req)
		}},
		"slow_first": {puller.WayAlias, func(n int32, _ http.ResponseWriter, req *http.Request) bool {
			if n == 1 {
				select {
				case <-time.After(3 * time.Second):
				case <-req.Context().Done():
				}
			}
			return false
		}},
		"token_expires": {puller.WayAlias, func() func(int32, http.ResponseWriter, *http.Request) bool {
			var issued, expired atomic.Int32
			return func(n int32, w http.ResponseWriter, req *http.Request) bool {
				if path.Base(req.URL.Path) == "token" {
					fmt.Fprintf(w, `{"token":"%d"}`, issued.Add(1))
					return true
				}
				if n > 6 {
					expired.CompareAndSwap(0, issued.Load())
				}
				if token, _ := strconv.Atoi(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")); int32(token) > expired.Load() {
					return false
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/blobs/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
		}()},
		"signed_url_expires": {puller.WayAlias, func() func(int32, http.ResponseWriter, *http.Request) bool {
			var signed, expired atomic.Int32
			return func(n int32, w http.ResponseWriter, req *http.Request) bool {
				_, port, _ := net.SplitHostPort(req.Host)
				signature := req.URL.Query().Get("signature")
				if signature == "" { // another host has the blobs
					http.Redirect(w, req, fmt.Sprintf("http://localhost:%s%s?signature=%d", port, req.URL.Path, signed.Add(1)), http.StatusTemporaryRedirect)
					return true
				}
				if n > 6 {
					expired.CompareAndSwap(0, signed.Load())
				}
				if of, _ := strconv.Atoi(signature); int32(of) > expired.Load() && req.Header.Get("Authorization") == "" {
					return false
				}
				w.WriteHeader(http.StatusForbidden)
				return true
			}
		}()},
		"hangs": {puller.WayAlias, func(n int32, w http.ResponseWriter, req *http.Request) bool {
			if n == 3 {
				<-req.Context().Done()
			}
			return n == 3
		}},
		"cuts": {puller.WayAlias, func(n int32, w http.ResponseWriter, req *http.Request) bool {
			if n%3 != 0 {
				return false
			}
			w.Header().Set("Content-Length", "1000000")
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		}},
		"busy": {puller.WayAlias, func() func(int32, http.ResponseWriter, *http.Request) bool {
			var now atomic.Int32
			return func(_ int32, w http.ResponseWriter, req *http.Request) bool {
				if now.Add(1) > 4 {
					w.WriteHeader(http.StatusTooManyRequests)
					now.Add(-1)
					return true
				}
				context.AfterFunc(req.Context(), func() { now.Add(-1) })
				return false
			}
		}()},
		"wrong_bytes_once": {puller.WayAlias, func(n int32, w http.ResponseWriter, req *http.Request) bool {
			if n == 1 {
				zeros(w, req)
			}
			return n == 1
		}},
		"wrong_bytes": {puller.WayNone, func(_ int32, w http.ResponseWriter, req *http.Request) bool {
			zeros(w, req)
			return true
		}},
		"gzip": {puller.WayNone, func(_ int32, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			packed.Write(make([]byte, 1<<20))
			packed.Close()
			return true
		}},
		"denied": {puller.WayNone, func(n int32, w http.ResponseWriter, req *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		}},
		"gone": {puller.WayNone, func(n int32, w http.ResponseWriter, req *http.Request) bool {
			if n > 4 {
				w.WriteHeader(http.StatusNotFound)
			}
			return n > 4
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newMirrorRig(t)
			image := r.push("spoiled", 2, 5<<20)
			config := strings.TrimPrefix(image.id, "sha256:")
			layers, err := r.registry.Layers(t.Context(), image.ref)
			if err != nil {
				t.Fatal(err)
			}
			sizes := make(map[string]int64)
			for _, digest := range layers {
				sizes[digest] = r.size(image, digest)
			}
			var n atomic.Int32
			r.registry.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				return ours(req) && !strings.Contains(req.URL.Path, config) && c.spoil(n.Add(1), sized{w, sizes[path.Base(req.URL.Path)]}, req)
			})
			job := r.succeeds(r.submit(image.ref, 0).ID, image)
			r.came(job, c.way)
			if name == "wrong_bytes" && !strings.Contains(job.Result.Accelerated.Reason, "another digest") {
				t.Errorf("the reason is %q", job.Result.Accelerated.Reason)
			}
			r.unnamed()
		})
	}
}

// sized is an answer for a blob of some bytes.
type sized struct {
	http.ResponseWriter
	size int64
}

// zeros answers with zeros instead of what a blob has.
func zeros(w http.ResponseWriter, req *http.Request) {
	size := w.(sized).size
	from, to, status := int64(0), size, http.StatusOK
	if n, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-%d", &from, &to); n == 2 && err == nil {
		to++
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, size))
	}
	w.Header().Set("Content-Length", fmt.Sprint(to-from))
	w.WriteHeader(status)
	w.Write(make([]byte, to-from))
}

// Each layer comes once, whoever wants it, and whatever others do to the engine.
func TestMirrorOnce(t *testing.T) {
	t.Parallel()
	t.Run("many_jobs", func(t *testing.T) {
		t.Parallel()
		r := newMirrorRig(t)
		image := r.push("wanted", 2, 5<<20)
		// No connection is so slow that another one takes over: that costs bytes.
		r.registry.Throttle(2 << 20)
		var ids []string
		for range 30 {
			ids = append(ids, r.submit(image.ref, 0).ID)
		}
		for _, id := range ids {
			r.succeeds(id, image)
		}
		r.once(image, 0)
		r.unnamed()
	})
	t.Run("shared_layers", func(t *testing.T) {
		t.Parallel()
		r := newMirrorRig(t)
		images, ids := r.pushShared("shared", 3), []string{}
		r.registry.Throttle(4 << 20)
		for _, image := range images {
			ids = append(ids, r.submit(image.ref, 0).ID)
		}
		for i, id := range ids {
			r.came(r.succeeds(id, images[i]), puller.WayAlias)
			r.once(images[i], 0)
		}
		r.unnamed()
	})
	t.Run("prune", func(t *testing.T) {
		t.Parallel()
		// A prune takes what other tests' pulls have not named yet: this one has its own engine.
		r := newFragileRig(t, lab.TowlineOptions{Config: accelerated}, nil)
		r.idle = 24
		r.endpoint()
		image := r.push("pruned", 2, 5<<20)
		release := r.hold(100 << 10)
		id := r.submit(image.ref, 3).ID
		r.pulling(id)
		for range 5 {
			resp, err := r.engine.Do(t.Context(), http.MethodPost, "/images/prune", nil, nil) // what has no name
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			r.engine.RemoveImage(t.Context(), image.ref)
		}
		release()
		r.succeeds(id, image)
		r.unnamed()
	})
}

// pushShared puts images into the registry that share their lowest layer.
func (r *rig) pushShared(repo string, images int) (all []pushed) {
	r.Helper()
	layer := func(n int) v1.Layer {
		l, err := lab.RandomLayer(seeds.Add(1), n, 3<<20)
		if err != nil {
			r.Fatal(err)
		}
		return l
	}
	base := layer(0)
	for n := range images {
		image, err := lab.ImageOf("linux/amd64", base, layer(1))
		if err != nil {
			r.Fatal(err)
		}
		all = append(all, r.pushImage(fmt.Sprint(repo, n), "v1", image))
	}
	return all
}

// pushImage puts an image into the registry, and takes it from the engine at the end.
func (r *rig) pushImage(repo, tag string, image v1.Image) pushed {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	id, err := image.ConfigName()
	if err != nil {
		r.Fatal(err)
	}
	digest, err := r.registry.Push(ctx, repo, tag, image)
	if err != nil {
		r.Fatal(err)
	}
	p := pushed{repo, r.registry.Ref(repo, tag), digest, id.String()}
	r.Cleanup(func() {
		ctx, cancel := within()
		defer cancel()
		r.engine.RemoveImage(ctx, p.ref)
	})
	return p
}

// The tag comes to stand for another image after Towline has fetched the first one.
func TestMirrorTagMoves(t *testing.T) {
	t.Parallel()
	r := newMirrorRig(t)
	first := r.push("moves", 1, 5<<20)
	other, err := lab.RandomImage(seeds.Add(1), 1, 5<<20, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	var move sync.Once
	second := first
	r.registry.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.UserAgent() != "towline" && strings.HasSuffix(req.URL.Path, "/manifests/v1") {
			move.Do(func() { second = r.pushImage("moves", "v1", other) })
		}
		return false
	})
	job := r.ended(r.submit(first.ref, 1).ID)
	if job.State != puller.StateSucceeded {
		t.Fatalf("%s: %+v", job.State, job.Error)
	}
	r.holds(job, second)
	if second.digest == first.digest {
		t.Error("the tag has not moved")
	}
	r.unnamed()
}

// What has arrived does not come again: after a kill of the daemon, after a cancel, and
// when the engine was killed.
func TestMirrorGoesOn(t *testing.T) {
	t.Parallel()
	for name, interrupt := range map[string]func(r *rig, id string, image pushed) string{
		"killed": func(r *rig, id string, _ pushed) string {
			r.towline.Kill()
			r.start()
			return id
		},
		"canceled": func(r *rig, id string, image pushed) string {
			r.cancel(id)
			return r.submit(image.ref, 0).ID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// What each connection has in its buffer comes again.
			r := newRig(t, strings.Replace(accelerated, "}", ", per_registry: 6}", 1))
			r.idle = 24
			r.endpoint()
			const size = 128 << 20
			image := r.push("half", 1, size)
			r.registry.Throttle(4 << 20) // each connection
			id := r.submit(image.ref, 3).ID
			r.until("half of it is here", func(context.Context) error {
				var sent int64
				for _, n := range r.registry.Counts().BlobBytes {
					sent += n
				}
				if sent < size/2 {
					return fmt.Errorf("%d bytes", sent)
				}
				return nil
			})
			id = interrupt(r, id, image)
			job := r.succeeds(id, image)
			r.came(job, puller.WayAlias)
			r.once(image, 0.02)
			if from := job.Result.Accelerated; from.FromCache < size*2/5 || from.FromRegistry > size*3/5 {
				t.Errorf("it says that it came from %+v", from)
			}
			r.unnamed()
		})
	}
	t.Run("engine_killed", func(t *testing.T) {
		t.Parallel()
		r := newFragileRig(t, lab.TowlineOptions{Config: accelerated}, nil)
		r.idle = 24
		r.endpoint()
		image := r.push("engine", 2, 5<<20)
		release := r.hold(100 << 10)
		id := r.submit(image.ref, 5).ID
		r.pulling(id)
		if err := r.engine.Kill(); err != nil {
			t.Fatal(err)
		}
		r.noticed(id, "the engine does not answer")
		release()
		if err := r.engine.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.succeeds(id, image)
		r.unnamed()
	})
}

// A kill between the two pulls leaves a temporary name. The next start removes it, and no
// other name.
func TestMirrorLeftoverName(t *testing.T) {
	t.Parallel()
	r := newMirrorRig(t)
	image := r.push("left", 1, 5<<20)
	stranger := r.push("stranger", 1, 1<<10)
	resp, err := r.engine.Do(t.Context(), http.MethodPost, "/images/create?fromImage="+stranger.ref, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	const other = "127.0.0.1:7079/towline/abcdefghijklmnopqrstuvwxyz"
	if resp, err = r.engine.Do(t.Context(), http.MethodPost, "/images/"+stranger.ref+"/tag?tag=mine&repo="+other, nil, nil); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	t.Cleanup(func() { r.engine.RemoveImage(context.Background(), other+":mine") })
	asked, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	r.registry.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.UserAgent() != "towline" && strings.HasSuffix(req.URL.Path, "/left/manifests/v1") {
			first.Do(func() { close(asked) })
			select {
			case <-goOn:
			case <-req.Context().Done():
			}
		}
		return false
	})
	id := r.submit(image.ref, 3).ID
	<-asked
	// The engine may still unpack what it has got under the temporary name.
	r.until("the engine has the temporary name", func(ctx context.Context) error {
		if r.aliases(ctx) == "" {
			return errors.New("it has none")
		}
		return nil
	})
	r.towline.Kill()
	close(goOn)
	if r.aliases(t.Context()) == "" {
		t.Fatal("the kill has left no temporary name")
	}
	r.start()
	r.succeeds(id, image)
	r.until("the temporary name is gone", func(ctx context.Context) error {
		notes, err := filepath.Glob(filepath.Join(r.dir, "state", "blobs", "names", "*"))
		if len(notes) > 0 {
			err = errors.Join(err, errors.New("there are notes of temporary names"))
		}
		return err
	})
	resp, err = r.engine.Do(t.Context(), http.MethodGet, "/images/json", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	if regexp.MustCompile(`127\.0\.0\.1:\d+/towline/[a-z2-7]{26}@` + image.digest).Match(all) {
		t.Errorf("a temporary name is left: %s", all)
	}
	if there, _ := r.engine.HasImage(t.Context(), other+":mine"); !there {
		t.Error("another name was removed")
	}
}

// The cache's disk is full, its files are damaged, and its port is taken: the image comes.
func TestMirrorCache(t *testing.T) {
	t.Parallel()
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		lab.Need(t, site.err)
		dir, err := os.MkdirTemp(site.dir, "d")
		if err != nil {
			t.Fatal(err)
		}
		cache := filepath.Join(dir, "state", "blobs")
		if err := errors.Join(os.MkdirAll(cache, 0o700), os.Chmod(filepath.Dir(cache), 0o700), syscall.Mount("tmpfs", cache, "tmpfs", 0, "size=4m")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(cache, syscall.MNT_DETACH) })
		r := newRigIn(t, site.engine, dir, lab.TowlineOptions{Config: accelerated})
		r.idle = 24
		r.endpoint()
		image := r.push("full", 2, 5<<20)
		job := r.succeeds(r.submit(image.ref, 0).ID, image)
		r.came(job, puller.WayNone)
		if !strings.Contains(job.Result.Accelerated.Reason, "no space left on device") {
			t.Errorf("the reason is %q", job.Result.Accelerated.Reason)
		}
		r.unnamed()
	})
	t.Run("damaged", func(t *testing.T) {
		t.Parallel()
		r := newMirrorRig(t)
		image := r.push("damaged", 2, 5<<20)
		r.came(r.succeeds(r.submit(image.ref, 0).ID, image), puller.WayAlias)
		r.towline.Kill()
		layers, err := r.registry.Layers(t.Context(), image.ref)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(filepath.Join(r.dir, "state", "blobs", strings.Replace(layers[1], ":", "-", 1)), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte("damage"), 1<<20); err != nil {
			t.Fatal(err)
		}
		file.Close()
		if err := r.engine.RemoveImage(t.Context(), image.ref); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.endpoint()
		r.registry.ResetCounts()
		job := r.succeeds(r.submit(image.ref, 0).ID, image)
		r.came(job, puller.WayAlias)
		again, brought := r.registry.Counts().BlobBytes, job.Result.Accelerated.FromRegistry
		// Of what is there, the registry shows a sample to the caller's credentials, and once
		// more if the engine names the layers one after the other. A part that is late is
		// raced, and what the slower connection had sent is lost: it is not in what the job
		// has brought, and is at most one part.
		const sample, part = 64 << 10, 2 << 20
		whole := r.size(image, layers[1])
		if again[layers[0]] > 2*sample || again[layers[1]] < whole || again[layers[1]] > whole+part || brought < whole || brought > whole+2*sample {
			t.Errorf("the registry sent %v, and the job brought %d", again, brought)
		}
	})
	t.Run("port", func(t *testing.T) {
		t.Parallel()
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		r := newRig(t, strings.Replace(accelerated, "127.0.0.1:0", taken.Addr().String(), 1))
		image := r.push("port", 1, 5<<20)
		job := r.succeeds(r.submit(image.ref, 0).ID, image)
		r.unaccelerated(job, "address already in use")
	})
}

// A process on this machine finds nothing at the endpoint, and the temporary name is
// nowhere but in the state and in the engine.
func TestMirrorStranger(t *testing.T) {
	t.Parallel()
	r := newMirrorRig(t)
	address := r.endpoint()
	image := r.push("secret", 1, 5<<20)
	layers, err := r.registry.Layers(t.Context(), image.ref)
	if err != nil {
		t.Fatal(err)
	}
	release := r.hold(100 << 10)
	id := r.submit(image.ref, 0).ID
	r.pulling(id)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		method, host, path string
		want               []int
	}{
		{"GET", "", "/v2/_catalog", []int{404}},
		{"GET", "", "/v2/secret/manifests/v1", []int{404}},
		{"GET", "", "/v2/towline/manifests/" + image.digest, []int{404}},
		{"GET", "", "/v2/towline/aaaaaaaaaaaaaaaaaaaaaaaaaa/blobs/" + layers[0], []int{404}},
		{"GET", "", "/v2/secret/blobs/" + layers[0] + "?ns=" + r.registry.Addr(), []int{404}},
		{"GET", "registry.test", "/v2/", []int{400, 403, 404, 421}},
		{"POST", "", "/v2/secret/blobs/uploads/", []int{404, 405}},
		{"GET", "", "/v2/" + strings.Repeat("a", 5000) + "/blobs/" + layers[0], []int{400, 404, 414}},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+address+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		ok := false
		for _, status := range c.want {
			ok = ok || resp.StatusCode == status
		}
		if !ok || len(body) > 1<<10 {
			t.Errorf("%s %s of the host %q: %s, %d bytes", c.method, c.path, c.host, resp.Status, len(body))
		}
	}
	notes, _ := filepath.Glob(filepath.Join(r.dir, "state", "blobs", "names", "*"))
	if len(notes) != 1 {
		t.Fatalf("notes of temporary names: %s", notes)
	}
	note, err := os.ReadFile(notes[0])
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(string(note), "@")
	secret := path.Base(name)
	release()
	job := r.succeeds(id, image)
	told := fmt.Sprintf("%+v %+v %s", job, r.notices(id), r.towline.Log())
	if strings.Contains(told, secret) {
		t.Error("a job, an event or the log tells the temporary name")
	}
	if info, err := os.Stat(notes[0]); err == nil || info != nil {
		t.Error("the note of the temporary name is left")
	}
}

// What one caller's credentials have brought is in the cache. Another caller gets it only
// with credentials that the registry accepts.
func TestMirrorPrivate(t *testing.T) {
	t.Parallel()
	r := newMirrorRig(t)
	closed, err := lab.StartRegistry(lab.RegistryOptions{Username: "one", Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed.Close() })
	content, err := lab.RandomImage(seeds.Add(1), 1, 5<<20, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Push(t.Context(), "closed", "v1", content); err != nil {
		t.Fatal(err)
	}
	ref := closed.Ref("closed", "v1")
	t.Cleanup(func() { r.engine.RemoveImage(context.Background(), ref) })
	pull := func(password string) error {
		c, err := client.New(r.towline.Host, "")
		if err != nil {
			return err
		}
		defer c.Close()
		none := 0
		request := client.PullRequest{Image: ref, Retries: &none}
		if password != "" {
			login := fmt.Sprintf(`{"username":"one","password":%q,"serveraddress":%q}`, password, closed.Addr())
			if request.Credentials, err = puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(login))); err != nil {
				return err
			}
		}
		job, err := c.Pull(t.Context(), request)
		if err == nil && (job.Result.Accelerated == nil || job.Result.Accelerated.Way != puller.WayAlias) {
			err = fmt.Errorf("it came as %+v", job.Result.Accelerated)
		}
		return err
	}
	for _, c := range []struct {
		password string
		kind     puller.ErrorKind
	}{{"right", ""}, {"wrong", puller.ErrDenied}, {"", puller.ErrDenied}, {"right", ""}} {
		if err := pull(c.password); puller.KindOf(err) != c.kind {
			t.Errorf("with the password %q: %v, not %q", c.password, err, c.kind)
		}
		if err := r.engine.RemoveImage(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	r.unnamed()
}
