package platforms_test

import (
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/platforms"
)

func TestParse(t *testing.T) {
	for given, want := range map[string]string{
		"linux/amd64": "linux/amd64", "LINUX/AMD64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/x86-64": "linux/amd64", "linux/amd64/v1": "linux/amd64",
		"linux/amd64/v2": "linux/amd64/v2", "linux/aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64/v8", "linux/arm64/8": "linux/arm64/v8",
		"linux/arm": "linux/arm", "linux/arm/v6": "linux/arm/v6", "linux/armhf": "linux/arm", "linux/armel": "linux/arm/v6", "linux/i386": "linux/386",
		"windows/amd64": "windows/amd64", "macos/arm64": "darwin/arm64",
		// The rest is the engine's.
		"linux": "linux/s390x", "Linux": "linux/s390x", "amd64": "linux/amd64", "aarch64": "linux/arm64", "armel": "linux/arm/v6", "windows": "windows/s390x",
	} {
		got, err := platforms.Parse(given, "linux/s390x")
		if got != want || err != nil {
			t.Errorf("%q is %q, %v", given, got, err)
		}
		if again, err := platforms.Parse(got, ""); again != got || err != nil {
			t.Errorf("%q, parsed again, is %q, %v", got, again, err)
		}
	}
	for _, half := range []string{"linux", "amd64", ""} {
		if got, err := platforms.Parse(half, ""); puller.KindOf(err) != puller.ErrInvalidRequest {
			t.Errorf("half of one, %q, is %q", half, got)
		}
	}
}

func FuzzParsePlatform(f *testing.F) {
	f.Add("linux/amd64", "linux/arm64")
	f.Add("ARM64", "windows/amd64")
	f.Add("linux", "linux/arm/v7")
	f.Fuzz(func(t *testing.T, given, own string) {
		got, err := platforms.Parse(given, own)
		if err != nil {
			if puller.KindOf(err) != puller.ErrInvalidRequest || len(err.Error()) > 1000 {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := platforms.Parse(got, ""); again != got || err != nil {
			t.Errorf("%q is %q, and that %q, %v", given, got, again, err)
		}
	})
}
