package keep_test

import (
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

func TestCheckSetName(t *testing.T) {
	for _, name := range []string{"a", "0", "web", "team-a.web_2", strings.Repeat("x", 63)} {
		if err := keep.CheckSetName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "Web", ".web", "-web", "_web", "we b", "web/1", "wéb", "web\n", "learned", strings.Repeat("x", 64), "../web"} {
		if err := keep.CheckSetName(name); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "name: ") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseLease(t *testing.T) {
	for text, want := range map[string]time.Duration{"1m": time.Minute, "2h": 2 * time.Hour, "720h": 720 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := keep.ParseLease("ttl", text); err != nil || got != want {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "59s", "720h1s", "-2h", "2", "2d", "forever", "2562047h47m16.854775807s", strings.Repeat("9", 5000)} {
		if _, err := keep.ParseLease("lease", text); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "lease: ") || len(err.Error()) > 400 {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
