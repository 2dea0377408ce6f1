package pullstream_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkGolden compares what was got with testdata/golden/NAME.txt.
func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", filepath.FromSlash(name)+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; got:\n%s", file, got)
	}
}

// open returns a recording's body as its client saw it come to an end.
func open(r transcripts.Recording) io.Reader {
	body := bytes.NewReader(r.Body)
	switch r.Exit {
	case 18:
		return io.MultiReader(body, iotest.ErrReader(io.ErrUnexpectedEOF))
	case 28:
		return io.MultiReader(body, iotest.ErrReader(context.DeadlineExceeded))
	}
	return body
}

// readAll decodes a stream to its end.
func readAll(r io.Reader, max int) ([]pullstream.Message, error) {
	d := pullstream.NewDecoder(r, max)
	var all []pullstream.Message
	for {
		m, err := d.Next()
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

// began is where the tests' synthetic clocks start.
var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
