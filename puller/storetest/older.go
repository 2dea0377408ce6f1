package storetest

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

//go:embed testdata/older
var older embed.FS

// OlderAnswer is what an older build of Towline answered for a job of its own.
type OlderAnswer struct {
	Job    json.RawMessage
	Events []string // of a job that had ended, one line of JSON each
	Logs   string   // of a run
}

// WriteOlder writes the state directory of an older build to a directory, which
// is made. The build was killed while it had jobs.
func WriteOlder(t testing.TB, dir string) []OlderAnswer {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := fs.Sub(older, "testdata/older")
	fatal(err)
	packed, err := fs.ReadFile(root, "jobs.db.gz")
	fatal(err)
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	fatal(err)
	file, err := io.ReadAll(unpacked)
	fatal(err)
	fatal(os.MkdirAll(filepath.Join(dir, "output"), 0o700))
	fatal(os.WriteFile(filepath.Join(dir, "jobs.db"), file, 0o600))
	output, err := fs.Sub(root, "output")
	fatal(err)
	fatal(os.CopyFS(filepath.Join(dir, "output"), output))

	data, err := fs.ReadFile(root, "answers.json")
	fatal(err)
	var answers []OlderAnswer
	fatal(json.Unmarshal(data, &answers))
	return answers
}
