package pullstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// pieces gives at most n bytes a read.
type pieces struct {
	r io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(p.n, len(b))]) }

// chunkings are ways in which the same bytes can arrive.
var chunkings = []struct {
	name string
	of   func(io.Reader) io.Reader
}{
	{"all at once", func(r io.Reader) io.Reader { return r }},
	{"all at once with the end", iotest.DataErrReader},
	{"1 byte", iotest.OneByteReader},
	{"1 byte, the last with the end", func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) }},
	{"7 bytes", func(r io.Reader) io.Reader { return pieces{r, 7} }},
	{"half of what is asked for", iotest.HalfReader},
}

func TestDecoderPieces(t *testing.T) {
	reset := errors.New("connection reset")
	wrapped := fmt.Errorf("proxy: %w", io.EOF)
	text := func(status string) pullstream.Message { return pullstream.Message{Status: status} }
	long := strings.Repeat("x", 300)
	tests := []struct {
		name   string
		in     string
		after  error // what the reader says after in; nil is io.EOF
		want   []pullstream.Message
		err    error                   // io.EOF where nil
		syntax *pullstream.SyntaxError // its Err is only checked to be there
	}{
		{name: "nothing"},
		{name: "lines", in: `{"status":"a"}` + "\n" + `{"status":"b"}` + "\n", want: []pullstream.Message{text("a"), text("b")}},
		{name: "carriage returns", in: "{\"status\":\"a\"}\r\n{\"status\":\"b\"}\r\n", want: []pullstream.Message{text("a"), text("b")}},
		{name: "blank lines", in: "\n\r\n  \t\n{\"status\":\"a\"}\n\n\n", want: []pullstream.Message{text("a")}},
		{name: "space around", in: "  {\"status\" : \"a\"}\t \n", want: []pullstream.Message{text("a")}},
		{name: "unknown fields", in: `{"new":{"deep":[1,{"status":"no"}]},"status":"a","progress":"[=>  ]"}` + "\n", want: []pullstream.Message{text("a")}},
		{name: "absent fields", in: "{}\n{\"id\":null,\"progressDetail\":null}\n", want: []pullstream.Message{{}, {}}},
		{
			name: "every field",
			in:   `{"status":"Extracting","id":"0123456789ab","progressDetail":{"current":7,"total":-1,"units":"s"},"error":"old","errorDetail":{"code":9,"message":"new"},"aux":{"ID": "x"}}` + "\n",
			want: []pullstream.Message{{
				Status: "Extracting", ID: "0123456789ab", Detail: pullstream.Detail{Current: 7, Total: -1, Units: "s"},
				Error: "old", ErrorDetail: &pullstream.ErrorDetail{Code: 9, Message: "new"}, Aux: []byte(`{"ID": "x"}`),
			}},
		},
		{
			name: "a full line before an empty one",
			in: `{"status":"a","id":"b","progressDetail":{"current":1,"total":2,"units":"s"},"error":"c","errorDetail":{"message":"d"},"aux":1}` +
				"\n{}\n" + `{"progressDetail":{"current":3},"errorDetail":{}}` + "\n",
			want: []pullstream.Message{
				{Status: "a", ID: "b", Detail: pullstream.Detail{Current: 1, Total: 2, Units: "s"}, Error: "c", ErrorDetail: &pullstream.ErrorDetail{Message: "d"}, Aux: []byte("1")},
				{},
				{Detail: pullstream.Detail{Current: 3}, ErrorDetail: &pullstream.ErrorDetail{}},
			},
		},
		{name: "bytes that are not UTF-8", in: "{\"status\":\"a\xff\xc3b\"}\n", want: []pullstream.Message{text("a\ufffd\ufffdb")}},
		{name: "objects that share a line", in: `{"status":"a"}{"status":"b"} {"status":"c"}` + "\n" + `{"status":"d"}`, want: []pullstream.Message{text("a"), text("b"), text("c"), text("d")}},
		{name: "a whole last line without a newline", in: "{\"status\":\"a\"}\n{\"status\":\"b\"}", want: []pullstream.Message{text("a"), text("b")}},
		{name: "a cut last line", in: "{\"status\":\"a\"}\n{\"status\":\"b", want: []pullstream.Message{text("a")}, err: io.ErrUnexpectedEOF},
		{name: "a last line cut in a literal", in: `{"aux":tr`, err: io.ErrUnexpectedEOF},
		{name: "a cut second object", in: `{"status":"a"}{`, want: []pullstream.Message{text("a")}, err: io.ErrUnexpectedEOF},
		{name: "a line cut by its newline", in: "{\"status\":\n", syntax: &pullstream.SyntaxError{Line: 1, Text: `{"status":`}},
		{name: "a line cut by its newline with more after it", in: "{}\n{\"status\":\n{\"status\":\"b\"}\n", want: []pullstream.Message{{}}, syntax: &pullstream.SyntaxError{Line: 2, Text: `{"status":`}},
		{name: "garbage", in: "{}\n\n<html>\n{}\n", want: []pullstream.Message{{}}, syntax: &pullstream.SyntaxError{Line: 3, Text: "<html>"}},
		{name: "garbage without a newline", in: "502 Bad Gateway", syntax: &pullstream.SyntaxError{Line: 1, Text: "502 Bad Gateway"}},
		{name: "long garbage is clipped", in: long + "\n", syntax: &pullstream.SyntaxError{Line: 1, Text: long[:200]}},
		{name: "garbage after an object", in: `{"status":"a"}, {}` + "\n", want: []pullstream.Message{text("a")}, syntax: &pullstream.SyntaxError{Line: 1, Text: ", {}"}},
		{name: "no object", in: "[{}]\n", syntax: &pullstream.SyntaxError{Line: 1, Text: "[{}]"}},
		{name: "a field of another type", in: "{\"status\":[]}\n", syntax: &pullstream.SyntaxError{Line: 1, Text: `{"status":[]}`}},
		{name: "bad syntax", in: "{status:1}\n", syntax: &pullstream.SyntaxError{Line: 1, Text: "{status:1}"}},
		{name: "a failed read", in: "{\"status\":\"a\"}\n", after: reset, want: []pullstream.Message{text("a")}, err: reset},
		{name: "a failed read inside a line", in: "{\"status\":\"a\"}\n{\"status\":\"b\"}\n{\"sta", after: reset, want: []pullstream.Message{text("a"), text("b")}, err: reset},
		{name: "a body cut between lines", in: "{\"status\":\"a\"}\n", after: io.ErrUnexpectedEOF, want: []pullstream.Message{text("a")}, err: io.ErrUnexpectedEOF},
		{name: "an end that the reader calls a failure", in: "{}\n", after: wrapped, want: []pullstream.Message{{}}, err: wrapped},
		{name: "a failed read at once", after: context.Canceled, err: context.Canceled},
	}
	for _, test := range tests {
		for _, chunking := range chunkings {
			t.Run(test.name+"/"+chunking.name, func(t *testing.T) {
				var r io.Reader = strings.NewReader(test.in)
				if test.after != nil {
					r = io.MultiReader(r, iotest.ErrReader(test.after))
				}
				got, err := readAll(chunking.of(r), 0)
				if len(got) != len(test.want) || len(got) > 0 && !reflect.DeepEqual(got, test.want) {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
				if test.syntax == nil {
					if test.err == nil {
						test.err = io.EOF
					}
					if err != test.err {
						t.Errorf("ended with %v, want %v", err, test.err)
					}
					return
				}
				var syntax *pullstream.SyntaxError
				if !errors.As(err, &syntax) {
					t.Fatalf("ended with %v, want a syntax error", err)
				}
				if syntax.Line != test.syntax.Line || syntax.Text != test.syntax.Text || errors.Unwrap(syntax) == nil {
					t.Errorf("got line %d, text %q, cause %v; want line %d, text %q and a cause", syntax.Line, syntax.Text, syntax.Err, test.syntax.Line, test.syntax.Text)
				}
			})
		}
	}
}

func TestDecoderErrorsStay(t *testing.T) {
	for name, in := range map[string]string{
		"clean end": "{}\n",
		"cut":       "{}\n{",
		"garbage":   "{}\nno\n{}\n",
		"too long":  "{}\n" + strings.Repeat(" ", 99) + "\n{}\n",
	} {
		d := pullstream.NewDecoder(strings.NewReader(in), 50)
		if _, err := d.Next(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, first := d.Next()
		for range 3 {
			if m, err := d.Next(); err == nil || err != first || !reflect.DeepEqual(m, pullstream.Message{}) {
				t.Errorf("%s: %v was followed by %+v, %v", name, first, m, err)
			}
		}
	}
}

func TestDecoderLineLimit(t *testing.T) {
	const limit = 10_000 // above the size of one read
	for _, chunking := range chunkings {
		for size, want := range map[int]error{limit: io.EOF, limit + 1: pullstream.ErrLineTooLong} {
			for _, end := range []string{"\n", ""} {
				line := `{"status":"` + strings.Repeat("x", size-len(`{"status":""}`)) + `"}` + end
				got, err := readAll(chunking.of(strings.NewReader("{}\n"+line)), limit)
				if err != want || len(got) != map[error]int{io.EOF: 2, pullstream.ErrLineTooLong: 1}[want] {
					t.Errorf("%s: a line of %d bytes%q gave %d messages and %v", chunking.name, size, end, len(got), err)
				}
			}
		}
	}
}

// endless repeats a text for ever and counts what was read of it.
type endless struct {
	text string
	read int
}

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = e.text[(e.read+i)%len(e.text)]
	}
	e.read += len(b)
	return len(b), nil
}

func TestDecoderEndlessLine(t *testing.T) {
	for _, limit := range []int{100, 64 << 10, pullstream.MaxLine} {
		r := &endless{text: `{"status":"`}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := pullstream.NewDecoder(r, limit).Next()
		runtime.ReadMemStats(&after)
		if err != pullstream.ErrLineTooLong {
			t.Errorf("cap %d: got %v", limit, err)
		}
		if most := limit + 8<<10; r.read > most {
			t.Errorf("cap %d: read %d bytes, want at most %d", limit, r.read, most)
		}
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(8*limit+64<<10); got > most {
			t.Errorf("cap %d: allocated %d bytes, want at most %d", limit, got, most)
		}
	}
}

func TestDecoderEndlessStream(t *testing.T) {
	r := &endless{text: `{"status":"` + strings.Repeat("x", 1000) + `"}` + "\n"}
	d := pullstream.NewDecoder(r, 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for r.read < 16<<20 {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+1<<20 {
		t.Errorf("holds %d bytes more after %d bytes of stream", after.HeapAlloc-before.HeapAlloc, r.read)
	}
	runtime.KeepAlive(d)
}

func TestDecoderDeepNesting(t *testing.T) {
	const levels = 100_000
	for _, field := range []string{"aux", "unknown", "status"} {
		for _, bracket := range []string{"[", `{"a":`} {
			_, err := readAll(strings.NewReader(`{"`+field+`":`+strings.Repeat(bracket, levels)+"\n"), 0)
			if syntax, ok := errors.AsType[*pullstream.SyntaxError](err); !ok || len(syntax.Text) > 200 {
				t.Errorf("%d levels of %s in %s gave %.300v", levels, bracket, field, err)
			}
		}
	}
}

func TestFailureErrorDetailFirst(t *testing.T) {
	tests := []struct {
		line, want string
		failed     bool
	}{
		{`{"errorDetail":{"message":"new"},"error":"old"}`, "new", true},
		{`{"errorDetail":{"code":7,"message":"new"}}`, "new", true},
		{`{"error":"old"}`, "old", true},
		{`{"errorDetail":{},"error":"old"}`, "old", true},
		{`{"errorDetail":{}}`, "the engine reported an error without saying which", true},
		{`{"errorDetail":{"code":7}}`, "the engine reported an error without saying which", true},
		{`{"errorDetail":null,"error":""}`, "", false},
		{`{"status":"Downloading","aux":{"error":"no"}}`, "", false},
	}
	for _, test := range tests {
		got, err := readAll(strings.NewReader(test.line), 0)
		if err != io.EOF || len(got) != 1 {
			t.Fatalf("%s: got %d messages and %v", test.line, len(got), err)
		}
		if words, failed := got[0].Failure(); words != test.want || failed != test.failed {
			t.Errorf("%s: got %q, %t", test.line, words, failed)
		}
	}
}

func TestDigestLine(t *testing.T) {
	for want, m := range map[string]pullstream.Message{
		"sha256:abc": {Status: "Digest: sha256:abc "},
		"":           {Status: "Digest: sha256:abc", ID: "0123456789ab"},
	} {
		if got := m.Digest(); got != want {
			t.Errorf("%+v: got %q, want %q", m, got, want)
		}
	}
	if got := (&pullstream.Message{Status: "Status: Digest: x"}).Digest(); got != "" {
		t.Errorf("got %q from a status line", got)
	}
}

func TestRecordingsInPieces(t *testing.T) {
	for _, r := range transcripts.All() {
		want, end := readAll(open(r), 0)
		for _, chunking := range chunkings {
			got, err := readAll(chunking.of(open(r)), 0)
			if err != end || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: got %d messages and %v, want %d and %v", r.Name, chunking.name, len(got), err, len(want), end)
			}
		}
	}
}

func FuzzDecoder(f *testing.F) {
	for _, r := range transcripts.All() {
		f.Add(r.Body[:min(len(r.Body), 4<<10)], uint8(len(r.Name)), false)
	}
	for _, in := range []string{"", "{}{}", "{\"a\":\n{}", "{}\r\n\r\n{\"sta", "\xff", `{"errorDetail":{},"aux":[[[[]]]]}`, strings.Repeat(" ", 600)} {
		f.Add([]byte(in), uint8(3), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint8, fails bool) {
		const limit = 512
		arrive := func() (io.Reader, *counter) {
			c := &counter{r: bytes.NewReader(in)}
			if fails {
				return io.MultiReader(c, iotest.ErrReader(context.Canceled)), c
			}
			return c, c
		}
		r, count := arrive()
		want, end := readAll(r, limit)
		most := len(in)
		for start := 0; start < len(in); {
			length := bytes.IndexByte(in[start:], '\n')
			if length < 0 {
				length = len(in) - start
			}
			if length > limit {
				most = start + limit + 8<<10
				break
			}
			start += length + 1
		}
		if count.n > most {
			t.Errorf("read %d of %d bytes, want at most %d", count.n, len(in), most)
		}
		more := append(chunkings[1:len(chunkings):len(chunkings)], struct {
			name string
			of   func(io.Reader) io.Reader
		}{fmt.Sprint(n, " bytes"), func(r io.Reader) io.Reader { return pieces{r, int(n) + 1} }})
		for _, chunking := range more {
			r, _ := arrive()
			got, err := readAll(chunking.of(r), limit)
			if !reflect.DeepEqual(got, want) || fmt.Sprint(err) != fmt.Sprint(end) {
				t.Errorf("%s: got %d messages and %v; all at once %d and %v", chunking.name, len(got), err, len(want), end)
			}
		}
		if _, ok := errors.AsType[*pullstream.SyntaxError](end); !ok && end != io.EOF && end != io.ErrUnexpectedEOF && end != pullstream.ErrLineTooLong && (end != context.Canceled || !fails) {
			t.Errorf("ended with an error of no kind: %v", end)
		}
		var p pullstream.Progress
		for _, m := range want {
			m.Failure()
			m.Digest()
			p.Fold(m, began)
		}
	})
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func Example() {
	body := strings.NewReader(`{"status":"Pulling from library/alpine","id":"3.20"}
{"status":"Pulling fs layer","progressDetail":{},"id":"a1b2c3d4e5f6"}
{"status":"Downloading","progressDetail":{"current":400,"total":1000},"id":"a1b2c3d4e5f6"}
{"status":"Download complete","progressDetail":{"hidecounts":true},"id":"a1b2c3d4e5f6"}
{"status":"Extracting","progressDetail":{"current":1,"units":"s"},"id":"a1b2c3d4e5f6"}
{"errorDetail":{"message":"no space left on device"},"error":"no space left on device"}
`)
	decoder := pullstream.NewDecoder(body, 0)
	var progress pullstream.Progress
	for {
		message, err := decoder.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println("cut short:", err)
			break
		}
		if failure, failed := message.Failure(); failed {
			fmt.Println("failed:", failure)
		}
		if change := progress.Fold(message, time.Now()); change.Layer != nil {
			fmt.Println(change.Layer.ID, change.Layer.Phase, change.Layer.Current, "of", change.Layer.Total)
		}
	}
	totals := progress.Totals(time.Now())
	fmt.Println(totals.Downloaded, "of", totals.Total, "bytes,", totals.LayersDone, "of", totals.Layers, "layers")
	// Output:
	// a1b2c3d4e5f6 waiting 0 of 0
	// a1b2c3d4e5f6 downloading 400 of 1000
	// a1b2c3d4e5f6 downloaded 1000 of 1000
	// a1b2c3d4e5f6 extracting 0 of 1000
	// failed: no space left on device
	// 1000 of 1000 bytes, 0 of 1 layers
}
