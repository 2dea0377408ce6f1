package registry

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/towline/towline/puller/registry/manifest"
)

// However a URL says when it expires, it is used for a while that is neither negative nor
// longer than an hour.
func FuzzPlace(f *testing.F) {
	for _, s := range []string{"X-Amz-Expires=300&X-Amz-Date=20260102T030405Z", "X-Goog-Expires=-1", "Expires=9223372036854775807", "se=2026-01-02T03:04:05Z", "se=9999-12-31T23:59:59Z", "%zz"} {
		f.Add(s, "Fri, 02 Jan 2026 03:04:05 GMT")
	}
	f.Fuzz(func(t *testing.T, query, date string) {
		now := time.Now()
		p := newPlace(&url.URL{Scheme: "https", Host: "a.test", RawQuery: query}, http.Header{"Date": {date}})
		if left := p.until.Sub(now); left < 0 || left > time.Hour+time.Minute {
			t.Errorf("it is used for %s", left)
		}
	})
}

// Every manifest that is accepted keeps the promises of puller.Manifest.
func FuzzParseManifest(f *testing.F) {
	const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	f.Add([]byte(`{"config":{"digest":"`+digest+`"},"layers":[{"digest":"`+digest+`","size":5}]}`), []byte(`{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["`+digest+`"]}}`))
	f.Add([]byte(`{"manifests":[{"digest":"`+digest+`","platform":{"os":"linux","architecture":"arm64"}}]}`), []byte(`{}`))
	f.Add([]byte(`{"schemaVersion":1}`), []byte(``))
	f.Fuzz(func(t *testing.T, body, content []byte) {
		m, config, err := manifest.Parse(body)
		if err != nil {
			return
		}
		if config == nil {
			for _, platform := range []string{"linux/amd64", "linux/arm", ""} {
				if e, err := m.Choose(platform, "10.0.1"); err == nil && e.Digest.Hex == "" {
					t.Error("the entry has no digest")
				}
			}
			return
		}
		if m.ParseConfig(content) != nil {
			return
		}
		if len(m.Image.Layers) != len(m.Image.DiffIDs) {
			t.Errorf("%d layers, %d diff IDs", len(m.Image.Layers), len(m.Image.DiffIDs))
		}
		sum := int64(0)
		for _, l := range m.Image.Layers {
			if sum += l.Size; l.Size < 0 || sum > manifest.MaxBytes || l.Digest == "" {
				t.Errorf("a layer is %+v, the sum %d", l, sum)
			}
		}
	})
}
