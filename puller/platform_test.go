package puller_test

import (
	"testing"

	"github.com/towline/towline/puller"
)

func TestAnEngineTakesThePlatformNearestToItsOwn(t *testing.T) {
	for _, c := range []struct {
		platform string
		offers   []string
		want     int
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/amd64"}, 1},
		{"linux/amd64", []string{"windows/amd64", "linux/amd64/v1"}, 1},
		{"linux/amd64", []string{"linux/amd64/v2"}, -1},
		{"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, 1},
		{"linux/amd64", []string{"linux/386", "linux/arm64"}, 0},
		{"linux/386", []string{"linux/amd64"}, -1},
		{"linux/arm64", []string{"linux/arm64/v8"}, 0},
		{"linux/arm64/v8", []string{"linux/arm", "linux/arm64"}, 1},
		{"linux/arm64", []string{"linux/arm/v6", "linux/arm/v7"}, 1},
		{"linux/arm64/v9", []string{"linux/arm64"}, 0},
		{"linux/arm", []string{"linux/arm/v6", "linux/arm/v8"}, 0},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v5"}, 1},
		{"linux/arm/v7", []string{"linux/arm"}, 0},
		{"linux/s390x", []string{"linux/s390x"}, 0},
		{"linux/s390x", []string{"", "/", "linux", "s390x"}, -1},
		{"", []string{"linux/amd64"}, -1},
		{"linux/amd64", nil, -1},
	} {
		if got := puller.ChoosePlatform(c.offers, c.platform); got != c.want {
			t.Errorf("of %q, %s takes %d, not %d", c.offers, c.platform, got, c.want)
		}
	}
}
