package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/stream"
)

// dispatched is an event as the reader of an event stream sees it.
type dispatched struct{ id, event, data string }

// parseSSE interprets an event stream as the HTML standard says under
// "Interpreting an event stream", but for the decoding of UTF-8.
func parseSSE(text string) []dispatched {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	var all []dispatched
	var id, event, data string
	lines := strings.Split(text, "\n")
	for _, line := range lines[:len(lines)-1] { // an unfinished line is dropped
		if line == "" {
			if data != "" {
				all = append(all, dispatched{id, event, strings.TrimSuffix(data, "\n")})
			}
			event, data = "", ""
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		}
	}
	return all
}

var (
	dropped = strings.NewReplacer("\n", "", "\r", "", "\x00", "")
	unified = strings.NewReplacer("\r\n", "\n", "\r", "\n")
)

// checkSSE reads an event back, told between two others.
func checkSSE(t *testing.T, id, event string, data []byte) {
	t.Helper()
	var sent []byte
	sent = stream.AppendSSE(sent, "first", "before", []byte("1"))
	sent = stream.AppendSSE(sent, id, event, data)
	sent = stream.AppendSSE(sent, "last", "", []byte("2"))
	want := []dispatched{
		{"first", "before", "1"},
		{dropped.Replace(id), dropped.Replace(event), unified.Replace(string(data))},
		{"last", "", "2"},
	}
	if id == "" {
		want[1].id = "first" // the reader's last ID stays
	}
	if got := parseSSE(string(sent)); !slices.Equal(got, want) {
		t.Errorf("%q %q %q was sent as %q and read as %q", id, event, data, sent, got)
	}
}

func TestAppendSSE(t *testing.T) {
	tests := []struct{ id, event, data, want string }{
		{"1", "state", "{}", "id: 1\nevent: state\ndata: {}\n\n"},
		{"", "layer", "{}", "event: layer\ndata: {}\n\n"},
		{"1", "", "{}", "id: 1\ndata: {}\n\n"},
		{"", "", "", "data: \n\n"},
		{"", "", "a\nb", "data: a\ndata: b\n\n"},
		{"", "", "a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n\n"},
		{"", "", "\n\n", "data: \ndata: \ndata: \n\n"},
		{"", "", " spaced: out", "data:  spaced: out\n\n"},
		{"1\nevent: forged", "state\r\ndata: forged", "x", "id: 1event: forged\nevent: statedata: forged\ndata: x\n\n"},
		{"1\x002", "a\x00b", "x\x00y", "id: 12\nevent: ab\ndata: x\x00y\n\n"},
	}
	for _, test := range tests {
		if got := string(stream.AppendSSE([]byte("before "), test.id, test.event, []byte(test.data))); got != "before "+test.want {
			t.Errorf("%q %q %q: got %q, want %q", test.id, test.event, test.data, got, test.want)
		}
		checkSSE(t, test.id, test.event, []byte(test.data))
	}
}

func FuzzSSE(f *testing.F) {
	f.Add("12", "state", []byte(`{"seq":12}`))
	f.Add("", "", []byte("a\r\n\rb\n\n"))
	f.Add("1\nid: 2", "x\n\ndata: y", []byte("\n\nid: 3\nevent: z\n\n"))
	f.Add(" \x00", " :", []byte(": \xff\x00\ufeff"))
	f.Fuzz(func(t *testing.T, id, event string, data []byte) {
		checkSSE(t, id, event, data)
	})
}

func ExampleAppendSSE() {
	var out []byte
	out = stream.AppendSSE(out, "7", "notice", []byte("two\nlines"))
	out = stream.AppendSSE(out, "", "heartbeat", []byte("{}"))
	fmt.Printf("%s", out)
	// Output:
	// id: 7
	// event: notice
	// data: two
	// data: lines
	//
	// event: heartbeat
	// data: {}
}
