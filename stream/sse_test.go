package stream_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

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

func FuzzSSE(f *testing.F) {
	f.Add(uint64(12), "words")
	f.Add(uint64(0), "a\r\n\rb\n\n")
	f.Add(uint64(1), "\n\nid: 3\nevent: z\n\n\x00\xff\u2028")
	f.Fuzz(func(t *testing.T, seq uint64, word string) {
		e := event{Seq: seq, Type: "notice", Word: word}
		before := stream.NewFrame(7, "state", event{Seq: 7})
		frame := stream.NewFrame(seq, "notice", e)
		var sent []byte
		sent = stream.SSE.Append(sent, &before, "j")
		sent = stream.AppendRetry(sent, 1500*time.Millisecond)
		sent = stream.SSE.Append(sent, &frame, "j")
		sent = stream.SSE.Append(sent, &before, "j")
		got := parseSSE(string(sent))
		if len(got) != 3 || got[0] != got[2] || got[1].event != "notice" {
			t.Fatalf("%q was read as %q", sent, got)
		}
		e.Job = "j"
		data, _ := json.Marshal(e)
		if got[1].data != string(data) {
			t.Errorf("%q was read as %q", data, got[1].data)
		}
		if ids := []string{got[0].id, got[1].id}; seq == 0 && !slices.Equal(ids, []string{"7", "7"}) {
			t.Errorf("an event without a number moved the reader from %s to %s", ids[0], ids[1])
		}
	})
}

func TestAppendRetry(t *testing.T) {
	if got := string(stream.AppendRetry([]byte("x"), 2500*time.Millisecond)); got != "xretry: 2500\n\n" {
		t.Errorf("got %q", got)
	}
}
