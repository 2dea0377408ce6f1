package lab

import (
	"os"
	"testing"
)

// Need decides, for all tests, what the lack of a real part means: with err nil it
// does nothing; otherwise it fails the test when REQUIRE_ENGINE=1 is set, and skips
// it when not. It is meant for the errors of [Find] and [Private], and of what else of
// the machine a test needs.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_ENGINE") == "1":
		t.Fatalf("REQUIRE_ENGINE=1, but: %v", err)
	default:
		t.Skipf("not to be had here: %v", err)
	}
}

// NeedPrivate starts a private engine in a new short directory and closes it at the
// end of the test, as [Need] decides. A test fails if its engine cannot be removed
// without a trace.
func NeedPrivate(t testing.TB, opts PrivateOptions) *Engine {
	t.Helper()
	// Not t.TempDir: its long names leave no room for a socket's path.
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	engine, err := Private(t.Context(), dir, opts)
	Need(t, err)
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}
