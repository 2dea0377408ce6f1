package puller_test

import (
	"testing"

	"github.com/towline/towline/puller"
)

func TestStatusKinds(t *testing.T) {
	want := map[int]puller.ErrorKind{
		200: "", 206: "", 304: "", 307: "",
		401: puller.ErrDenied, 402: puller.ErrDenied, 403: puller.ErrDenied, 412: puller.ErrDenied, 423: puller.ErrDenied, 451: puller.ErrDenied,
		404: puller.ErrNotFound, 410: puller.ErrNotFound,
		429: puller.ErrRateLimited,
		408: puller.ErrRegistryUnavailable, 416: puller.ErrRegistryUnavailable, 425: puller.ErrRegistryUnavailable,
		500: puller.ErrRegistryUnavailable, 502: puller.ErrRegistryUnavailable, 503: puller.ErrRegistryUnavailable, 511: puller.ErrRegistryUnavailable, 520: puller.ErrRegistryUnavailable,
		400: puller.ErrRegistryUnavailable, 418: puller.ErrRegistryUnavailable, 999: puller.ErrRegistryUnavailable,
	}
	for status, kind := range want {
		if got := puller.KindOfStatus(status); got != kind {
			t.Errorf("%d is %q, not %q", status, got, kind)
		}
	}
}
