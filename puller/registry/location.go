package registry

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// location is where a blob is. All requests for parts of the blob share it: some registries
// count how often they are asked.
type location struct {
	// finding is held by the one request that asks the registry.
	finding chan struct{}

	mu    sync.Mutex
	place *place // nil where it is not known
}

// place is a URL of a blob.
type place struct {
	url *url.URL
	// direct says that the registry itself serves the blob.
	direct bool
	// until is when the URL is not used any more, the zero time for never.
	until time.Time
}

func (r *repository) location(digest string) *location {
	l := &location{finding: make(chan struct{}, 1)}
	if known, ok, _ := r.locations.PeekOrAdd(digest, l); ok {
		return known
	}
	return l
}

// current returns where the blob is. Where that is not known, the caller must find it: the
// other callers wait for that. The caller must call release, as often as it likes.
func (l *location) current(ctx context.Context) (at *place, release func(), err error) {
	if at := l.get(); at != nil {
		return at, func() {}, nil
	}
	select {
	case l.finding <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	release = sync.OnceFunc(func() { <-l.finding })
	if at := l.get(); at != nil {
		release()
		return at, release, nil
	}
	return nil, release, nil
}

func (l *location) get() *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.place != nil && !l.place.until.IsZero() && time.Now().After(l.place.until) {
		l.place = nil
	}
	return l.place
}

func (l *location) set(at *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.place = at
}

// forget forgets a place, unless another one has been found since.
func (l *location) forget(at *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.place == at {
		l.place = nil
	}
}

// refuses reports whether an answer may be due to the place, and not to the blob: signed
// URLs that have expired are answered with each of these.
func refuses(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

const (
	// placeLifetime is how long a URL is used that does not say when it expires.
	placeLifetime = 3 * time.Minute
	// maxPlaceLifetime is how long any URL is used.
	maxPlaceLifetime = time.Hour
)

// newPlace returns the place that an answer redirects to. Three quarters of a URL's time are
// used: a request must arrive before the end.
func newPlace(u *url.URL, h http.Header) *place {
	now := time.Now()
	clock := now // of the server
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		clock = date
	}
	lifetime, ok := lifetimeOf(u.Query(), clock)
	if !ok {
		lifetime = placeLifetime
	}
	lifetime = min(max(lifetime, 0), maxPlaceLifetime)
	return &place{url: u, until: now.Add(lifetime / 4 * 3)}
}

// lifetimeOf returns for how long a signed URL is valid, as its query says: the forms of
// Amazon S3 and what is compatible with it, Google Cloud Storage, CloudFront, and Azure.
func lifetimeOf(query url.Values, now time.Time) (lifetime time.Duration, ok bool) {
	for _, vendor := range []string{"X-Amz-", "X-Goog-"} {
		if n := seconds(query.Get(vendor + "Expires")); n >= 0 {
			lifetime = time.Duration(min(n, int64(maxPlaceLifetime/time.Second))) * time.Second
			if signed, err := time.Parse("20060102T150405Z", query.Get(vendor+"Date")); err == nil {
				lifetime = min(lifetime, signed.Add(time.Duration(min(n, maxExpires))*time.Second).Sub(now))
			}
			return lifetime, true
		}
	}
	if n := seconds(query.Get("Expires")); n >= 0 && n < 1<<40 {
		return time.Unix(n, 0).Sub(now), true
	}
	if end, err := time.Parse(time.RFC3339, query.Get("se")); err == nil {
		return end.Sub(now), true
	}
	return 0, false
}

// maxExpires is the longest time that signatures of S3 are valid, in seconds.
const maxExpires = 7 * 24 * 60 * 60

// seconds parses a number of seconds, and returns -1 for none.
func seconds(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
