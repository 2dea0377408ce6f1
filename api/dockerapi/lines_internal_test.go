package dockerapi

import (
	"bytes"
	"flag"
	"io"
	"os"
	"testing"
	"time"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

var update = flag.Bool("update", false, "write the golden file anew")

// layerLine appends the line of a layer's event.
func layerLine(dst []byte, l pullstream.Layer) []byte {
	f := stream.NewFrame(0, "layer", struct {
		Layer pullstream.Layer `json:"layer"`
	}{l})
	return lineFormat.Append(dst, &f, "")
}

func TestLinesOfOtherEvents(t *testing.T) {
	type event struct {
		Message string `json:"message"`
	}
	for typ, want := range map[string]string{
		"notice": "{\"status\":\"careful\"}\r\n", "state": "", "result": "", "log": "", "heartbeat": "",
	} {
		f := stream.NewFrame(1, typ, event{"careful"})
		if got := lineFormat.Append(nil, &f, "job"); string(got) != want {
			t.Errorf("%s: got %q, want %q", typ, got, want)
		}
	}
}

// Of each phase, with all, some and none of the counts.
var layers = []pullstream.Layer{
	{ID: "89092e44af27", Phase: pullstream.Waiting},
	{ID: "89092e44af27", Phase: pullstream.Downloading},
	{ID: "89092e44af27", Phase: pullstream.Downloading, Current: 204800},
	{ID: "89092e44af27", Phase: pullstream.Downloading, Total: 20006294},
	{ID: "89092e44af27", Phase: pullstream.Downloading, Current: 204800, Total: 20006294},
	{ID: "89092e44af27", Phase: pullstream.Verifying, Current: 20006294, Total: 20006294},
	{ID: "89092e44af27", Phase: pullstream.Downloaded, Current: 20006294, Total: 20006294},
	{ID: "89092e44af27", Phase: pullstream.Extracting, Total: 20006294},
	{ID: "89092e44af27", Phase: pullstream.Extracting, Current: 1 << 50, Total: 1 << 50},
	{ID: "89092e44af27", Phase: pullstream.Complete, Current: 20006294, Total: 20006294},
	{ID: "0d28499f843c", Phase: pullstream.Existing},
	{ID: `a"b\c` + "\r\n\x00\xffä", Phase: pullstream.Complete},
}

func TestLinesAreThoseOfDockerd(t *testing.T) {
	lines := appendStatus(nil, "3.20", "Pulling from library/alpine")
	for _, l := range layers {
		lines = layerLine(lines, l)
	}
	lines = appendStatus(lines, "", "a \"notice\"\r\nof two lines & <more>")
	lines = appendStatus(lines, "", "Status: Downloaded newer image for alpine:3.20")
	lines = appendError(lines, `manifest for "nope" not found`)
	lines = appendError(lines, "")
	const golden = "testdata/lines.txt"
	if *update {
		if err := os.WriteFile(golden, lines, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(lines, want) {
		t.Errorf("differs from %s, %v; got:\n%s", golden, err, lines)
	}
}

// A layer that was written is, once it has been read and folded, that layer
// again.
func TestLinesAreReadAsWritten(t *testing.T) {
	for _, l := range layers[:len(layers)-1] {
		var p pullstream.Progress
		m := readOne(t, layerLine(nil, l))
		change := p.Fold(m, time.Time{})
		if change.Layer == nil {
			t.Errorf("%+v is not read as a layer: %+v", l, m)
			continue
		}
		counted := (l.Phase == pullstream.Downloading || l.Phase == pullstream.Extracting) && l.Current > 0
		want := pullstream.Layer{ID: l.ID, Phase: l.Phase}
		if counted {
			want = l
		}
		if *change.Layer != want {
			t.Errorf("%+v is read as %+v", l, *change.Layer)
		}
	}
	m := readOne(t, appendStatus(nil, "v1", "Pulling from lab0"))
	if _, failed := m.Failure(); failed || m.ID != "v1" || m.Status != "Pulling from lab0" {
		t.Errorf("a status is read as %+v", m)
	}
	for _, message := range []string{"kaput", "", "\"\r\n<&>\u2028\x00ä"} {
		m := readOne(t, appendError(nil, message))
		got, failed := m.Failure()
		if !failed || message != "" && got != message || m.Error != m.ErrorDetail.Message || m.Error == "" {
			t.Errorf("an error of %q is read as %+v", message, m)
		}
	}
}

func readOne(t *testing.T, line []byte) pullstream.Message {
	t.Helper()
	if bytes.Count(line, []byte("\n")) != 1 || !bytes.HasSuffix(line, []byte("\r\n")) {
		t.Errorf("it is not one line that ends as dockerd's do: %q", line)
	}
	d := pullstream.NewDecoder(bytes.NewReader(line), 0)
	m, err := d.Next()
	if err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	if _, err := d.Next(); err != io.EOF {
		t.Errorf("something follows in %q: %v", line, err)
	}
	return m
}

// What an engine has written is written the same way, byte for byte, where it
// counts bytes and draws no bar of its own.
func TestLinesAreThoseThatEnginesWrite(t *testing.T) {
	for _, name := range []string{"engine-20.10/fresh", "engine-20.10/shared-base", "engine-next/fresh"} {
		same := 0
		var p pullstream.Progress
		for line := range bytes.Lines(transcripts.Load(name).Body) {
			m := readOne(t, line)
			change := p.Fold(m, time.Time{})
			if change.Layer == nil || bytes.Contains(line, []byte(`"progress":`)) ||
				bytes.Contains(line, []byte(`"units"`)) || bytes.Contains(line, []byte("hidecounts")) {
				continue
			}
			same++
			if got := layerLine(nil, *change.Layer); !bytes.Equal(got, line) {
				t.Errorf("%s: %q is written as %q", name, line, got)
			}
		}
		if same < 4 {
			t.Errorf("%s: only %d lines could be compared", name, same)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("89092e44af27", 1, int64(1), int64(2))
	f.Add("\"\xff\r\n", 4, int64(-1), int64(1<<62))
	f.Fuzz(func(t *testing.T, text string, phase int, current, total int64) {
		phases := int(pullstream.Existing) + 1
		l := pullstream.Layer{ID: text, Phase: pullstream.Phase((phase%phases + phases) % phases), Current: current, Total: total}
		readOne(t, layerLine(nil, l))
		readOne(t, appendStatus(nil, text, text))
		readOne(t, appendError(nil, text))
	})
}
