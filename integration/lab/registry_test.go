package lab_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"

	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
)

func fetch(t *testing.T, registry *lab.Registry, path string) (int, []byte, error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+registry.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func TestRegistry(t *testing.T) {
	registry := newRegistry(t, lab.RegistryOptions{})
	_, layers := push(t, registry, "app", 1, 100_000)
	blob := "/v2/app/blobs/" + layers[0]

	status, good, err := fetch(t, registry, blob)
	if status != http.StatusOK || err != nil || len(good) < 100_000 {
		t.Fatalf("%d, %d bytes, %v", status, len(good), err)
	}
	registry.CorruptBlob(layers[0])
	registry.Throttle(400_000)
	began := time.Now()
	_, bad, err := fetch(t, registry, blob)
	if err != nil || len(bad) != len(good) {
		t.Fatalf("%d bytes, %v", len(bad), err)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("100 kB at 400 kB/s took %v", took)
	}
	different := 0
	for i := range good {
		if good[i] != bad[i] {
			different++
		}
	}
	if different != 1 {
		t.Errorf("%d bytes differ", different)
	}

	registry.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	if status, _, _ := fetch(t, registry, blob); status != http.StatusTooManyRequests {
		t.Errorf("intercepted: %d", status)
	}
	registry.Heal()
	if status, body, _ := fetch(t, registry, blob); status != http.StatusOK || string(body) != string(good) {
		t.Errorf("healed: %d, %d bytes", status, len(body))
	}
	if counts := registry.Counts(); counts.BlobGets != 4 || counts.ByPath["GET "+blob] != 4 || counts.ManifestGets != 0 {
		t.Errorf("%+v", counts)
	}

	if err := registry.Untag(t.Context(), "app", "1"); err != nil {
		t.Error(err)
	}
	if status, _, _ := fetch(t, registry, "/v2/app/manifests/1"); status != http.StatusNotFound {
		t.Errorf("untagged: %d", status)
	}
}

// What the kernel sends is what the registry sends: the same content, only to who may have
// it, and counted.
func TestSendfile(t *testing.T) {
	registry := newRegistry(t, lab.RegistryOptions{Sendfile: true})
	_, layers := push(t, registry, "app", 1, 100_000)
	blob := "/v2/app/blobs/" + layers[0]
	status, all, err := fetch(t, registry, blob)
	if got := digest.FromBytes(all).String(); status != http.StatusOK || err != nil || got != layers[0] {
		t.Errorf("%d, %d bytes, %v, %s instead of %s", status, len(all), err, got, layers[0])
	}
	// They are counted once the kernel has taken them, which may be after they came.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := lab.Poll(ctx, time.Millisecond, func(context.Context) error {
		if n := registry.Counts().BlobBytes[layers[0]]; n != int64(len(all)) {
			return fmt.Errorf("%d bytes are counted instead of %d", n, len(all))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if status, _, _ := fetch(t, registry, "/v2/other/blobs/"+layers[0]); status != http.StatusNotFound {
		t.Errorf("%d for a repository that has no such blob", status)
	}
	registry.CorruptBlob(layers[0])
	if _, bad, err := fetch(t, registry, blob); err != nil || digest.FromBytes(bad).String() == layers[0] {
		t.Errorf("%v, and the digest is right", err)
	}

	closed := newRegistry(t, lab.RegistryOptions{Username: "ada", Password: "secret", Sendfile: true})
	_, layers = push(t, closed, "app", 1, 100)
	if status, _, _ := fetch(t, closed, "/v2/app/blobs/"+layers[0]); status != http.StatusUnauthorized {
		t.Errorf("%d without credentials", status)
	}
}

// A registry goes down in the middle of an answer, and comes back at its address.
func TestRegistryStop(t *testing.T) {
	registry := newRegistry(t, lab.RegistryOptions{})
	_, layers := push(t, registry, "app", 1, 1<<20)
	blob := "/v2/app/blobs/" + layers[0]
	registry.Throttle(1000)
	reached := make(chan struct{})
	registry.Intercept(func(http.ResponseWriter, *http.Request) bool {
		close(reached)
		return false
	})
	cut := make(chan error)
	go func() {
		_, _, err := fetch(t, registry, blob)
		cut <- err
	}()
	<-reached
	registry.Stop()
	registry.Stop()
	if err := <-cut; err == nil {
		t.Error("an answer outlived the registry")
	}
	registry.Heal()
	if _, _, err := fetch(t, registry, blob); err == nil {
		t.Error("a stopped registry answers")
	}
	if err := registry.Restart(); err != nil {
		t.Fatal(err)
	}
	if status, _, err := fetch(t, registry, blob); status != http.StatusOK || err != nil {
		t.Errorf("restarted: %d, %v", status, err)
	}
}

func TestRandomImage(t *testing.T) {
	digest := func(seed int64, platform string) string {
		t.Helper()
		image, err := lab.RandomImage(seed, 3, 70_000, platform)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(image); err != nil {
			t.Error(err)
		}
		hash, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return hash.String()
	}
	one := digest(1, "linux/arm/v7")
	if digest(1, "linux/arm/v7") != one {
		t.Error("the same seed gives another image")
	}
	if digest(2, "linux/arm/v7") == one || digest(1, "linux/arm64") == one {
		t.Error("another image has the same digest")
	}
	if _, err := lab.RandomImage(1, 1, 1, "a/b/c/d/e"); err == nil {
		t.Error("any platform will do")
	}
}
