package puller_test

import (
	"testing"

	"github.com/towline/towline/puller"
)

func TestAStatusOfARegistryHasOneKind(t *testing.T) {
	want := map[int]puller.Kind{
		200: "", 206: "", 304: "", 307: "",
		401: puller.Denied, 402: puller.Denied, 403: puller.Denied, 412: puller.Denied, 423: puller.Denied, 451: puller.Denied,
		404: puller.NotFound, 410: puller.NotFound,
		429: puller.RateLimited,
		408: puller.RegistryUnavailable, 416: puller.RegistryUnavailable, 425: puller.RegistryUnavailable,
		500: puller.RegistryUnavailable, 502: puller.RegistryUnavailable, 503: puller.RegistryUnavailable, 511: puller.RegistryUnavailable, 520: puller.RegistryUnavailable,
		400: puller.RegistryUnavailable, 418: puller.RegistryUnavailable, 999: puller.RegistryUnavailable,
	}
	for status, kind := range want {
		if got := puller.KindOfStatus(status); got != kind {
			t.Errorf("%d is %q, not %q", status, got, kind)
		}
	}
}
