package lab

import (
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
)

// labAgent begins the User-Agent of the lab's own requests to its registry, which are
// let through untouched.
const labAgent = "towline-lab"

// Hook sees a request before the registry does. If it has answered it, it returns true;
// otherwise the registry answers, into the same w. It runs on the request's goroutine,
// several at once, and must return when the request's context ends.
type Hook func(w http.ResponseWriter, r *http.Request) (handled bool)

// Faults disturb a registry's answers and count its requests. All may be changed at any
// time, also in the middle of a pull. It comes with a [Registry].
type Faults struct {
	tally   tally
	hook    atomic.Pointer[Hook]
	rate    atomic.Int64 // bytes a second for one blob; 0: no limit
	corrupt sync.Map     // digest → struct{}
	held    atomic.Pointer[held]
	blobs   atomic.Int32 // being answered
}

// held is where blobs stop, and what lets them go on.
type held struct {
	after int64
	gate  chan struct{}
}

func newFaults() *Faults { return &Faults{} }

// Intercept puts hook before the registry, in the place of the last one; nil takes it
// away. Requests that are already being answered are not affected.
func (f *Faults) Intercept(hook Hook) {
	if hook == nil {
		f.hook.Store(nil)
		return
	}
	f.hook.Store(&hook)
}

// Throttle sends the body of each blob at that many bytes a second, for each request
// by itself, so that a pull takes its time. 0 lifts the limit. It is at once felt by
// blobs under way.
func (f *Faults) Throttle(bytesPerSecond int64) { f.rate.Store(bytesPerSecond) }

// Hold makes every blob stop after that many bytes of its body until release is called,
// or the client goes away. Shorter blobs come whole.
func (f *Faults) Hold(after int64) (release func()) {
	h := &held{after, make(chan struct{})}
	f.held.Store(h)
	return sync.OnceFunc(func() {
		f.held.CompareAndSwap(h, nil)
		close(h.gate)
	})
}

// Blobs returns how many blobs are being answered now.
func (f *Faults) Blobs() int { return int(f.blobs.Load()) }

// CorruptBlob has that blob ("sha256:…") served with one byte in its middle changed,
// at its right length.
func (f *Faults) CorruptBlob(digest string) { f.corrupt.Store(digest, struct{}{}) }

// Heal takes every disturbance away: the hook, the throttle, the corrupt blobs.
func (f *Faults) Heal() {
	f.Intercept(nil)
	f.Throttle(0)
	f.corrupt.Clear()
}

func (f *Faults) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.UserAgent(), labAgent) {
			next.ServeHTTP(w, r)
			return
		}
		f.tally.add(r)
		if hook := f.hook.Load(); hook != nil && (*hook)(w, r) {
			return
		}
		if r.Method == http.MethodGet && endpoint(r.URL.Path) == "blobs" {
			f.blobs.Add(1)
			defer f.blobs.Add(-1)
			digest := path.Base(r.URL.Path)
			_, corrupt := f.corrupt.Load(digest)
			w = &blobWriter{
				ResponseWriter: w, ctx: r.Context(), rate: &f.rate, held: f.held.Load(), corrupt: corrupt,
				count: func(n int64) { f.tally.sent(digest, n) },
			}
		}
		next.ServeHTTP(w, r)
	})
}

// endpoint returns "manifests" or "blobs" for /v2/<name>/<endpoint>/<reference>, as
// the distribution specification has it, and something else for all other paths.
func endpoint(p string) string { return path.Base(path.Dir(p)) }
