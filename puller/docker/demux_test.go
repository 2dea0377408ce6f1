package docker_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
)

func frame(head string, size int, content string) string {
	return head + string([]byte{byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}) + content
}

// A wrong header costs no memory beyond one piece and ends the stream with an error.
func TestDemultiplex(t *testing.T) {
	const out = "\x01\x00\x00\x00"
	for name, c := range map[string]struct {
		stream, output string
		good           bool
	}{
		"whole":                   {frame(out, 2, "ab") + frame("\x02\x00\x00\x00", 1, "c") + frame(out, 0, ""), "abc", true},
		"empty":                   {"", "", true},
		"a head of 4 GiB":         {frame(out, 1<<32-1, strings.Repeat("x", 100<<10)), strings.Repeat("x", 100<<10), false},
		"half a head":             {"\x01\x00\x00", "", false},
		"half a frame":            {frame(out, 4, "ab"), "ab", false},
		"stdin":                   {frame("\x00\x00\x00\x00", 1, "a"), "", false},
		"a stream there is not":   {frame("\x09\x00\x00\x00", 1, "a"), "", false},
		"no head":                 {frame("\x01\x00\x01\x00", 1, "a"), "", false},
		"a failure of the engine": {frame("\x03\x00\x00\x00", 1<<32-1, "broken"), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c2 engines.Container) {
				id := create(t, e, c2)
				scripted.OnStream(func(string) []byte { return []byte(c.stream) })
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				var text strings.Builder
				_, err := e.Run(t.Context(), id, false, func() {}, collect(&text))
				runtime.ReadMemStats(&after)
				if (err == nil) != c.good || !c.good && puller.KindOf(err) != puller.ErrTruncated {
					t.Errorf("error: %v", err)
				}
				if !strings.HasPrefix(text.String(), c.output) {
					t.Errorf("got %.100q", text.String())
				}
				if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
					t.Errorf("allocated %d bytes", taken)
				}
			})
		})
	}
}
