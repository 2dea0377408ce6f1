package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/integration/lab"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pull reads POST /images/create to its end, and returns the first error in it.
func pull(ctx context.Context, engine *lab.Engine, ref string, header http.Header) error {
	repo, tag := ref[:strings.LastIndex(ref, ":")], ref[strings.LastIndex(ref, ":")+1:]
	query := url.Values{"fromImage": {repo}, "tag": {tag}}
	resp, err := engine.Do(ctx, http.MethodPost, "/images/create?"+query.Encode(), header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("before the stream: %s: %s", resp.Status, body)
	}
	var first error
	for dec := json.NewDecoder(resp.Body); ; {
		var line struct {
			Error       string
			ErrorDetail struct{ Message string }
		}
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return first
		} else if err != nil {
			return fmt.Errorf("cut: %w", err)
		}
		if line.Error != "" && first == nil {
			first = fmt.Errorf("in the stream: %s", line.ErrorDetail.Message)
		}
	}
}

// push puts a random image of two layers into the registry.
func push(t *testing.T, registry *lab.Registry, repo string, seed int64, layerBytes int64) (ref string, layers []string) {
	t.Helper()
	image, err := lab.RandomImage(seed, 2, layerBytes, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Push(t.Context(), repo, "1", image); err != nil {
		t.Fatal(err)
	}
	all, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, digest.String())
	}
	return registry.Ref(repo, "1"), layers
}

func newRegistry(t *testing.T, opts lab.RegistryOptions) *lab.Registry {
	t.Helper()
	registry, err := lab.StartRegistry(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := registry.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return registry
}

// traces lists the mounts and the processes that name one of the paths.
func traces(t *testing.T, paths ...string) []string {
	t.Helper()
	var found []string
	names := func(text string) bool {
		for _, path := range paths {
			if strings.Contains(text, path) {
				return true
			}
		}
		return false
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if names(line) {
			found = append(found, "mount "+line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range processes {
		line, _ := os.ReadFile(path) // gone meanwhile: no trace
		if names(string(line)) {
			found = append(found, path+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
