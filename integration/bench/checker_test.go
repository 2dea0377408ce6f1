package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func eventLine(seq int, typ, rest string) string {
	return fmt.Sprintf(`{"seq":%d,"time":"2026-01-02T03:04:05Z","type":%q,"job":"J"%s}`, seq, typ, rest)
}

func layerLine(phase string, current int) string {
	return fmt.Sprintf(`{"time":"2026-01-02T03:04:05Z","type":"layer","job":"J","layer":{"id":"a","phase":%q,"current":%d},"progress":{"downloaded":0,"extracted":0,"layers":1,"layers_done":0,"layers_existing":0}}`, phase, current)
}

// whole is what a reader of a pull gets.
func whole() []string {
	return []string{
		eventLine(1, "state", `,"state":"active"`), layerLine("downloading", 5), layerLine("downloading", 9),
		layerLine("extracting", 2), eventLine(2, "notice", `,"message":"x"`), layerLine("complete", 9),
		eventLine(3, "result", `,"result":{"id":"J","state":"succeeded"}`),
	}
}

// readLines has one reader get all lines, and returns what is wrong.
func readLines(w *checker, lines []string) error {
	var r reading
	for _, line := range lines {
		t, err := w.parse([]byte(line))
		if err == nil {
			err = r.add(t)
		}
		if err != nil {
			return err
		}
	}
	return r.check(w)
}

func TestCheckerNoticesFaults(t *testing.T) {
	without := func(i int) []string { l := whole(); return append(l[:i], l[i+1:]...) }
	swapped := func(i, k int) []string { l := whole(); l[i], l[k] = l[k], l[i]; return l }
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing":            {whole(), ""},
		"a later beginning":  {whole()[4:], ""},
		"a missing layer":    {whole()[6:], "0 layers"},
		"a missing number":   {without(4), "2 numbered events"},
		"a missing end":      {without(6), "the end is missing"},
		"layers missing":     {without(5), "does not become complete"},
		"a number twice":     {append(whole()[:1], whole()...), "number 1 after 1"},
		"a layer back":       {swapped(1, 2), "goes back"},
		"a phase back":       {swapped(2, 3), "goes back"},
		"more after the end": {append(whole(), whole()[1]), "follows the end"},
		"half a line":        {[]string{whole()[0][:20]}, "unexpected end"},
		"another job":        {append(whole()[:1], strings.Replace(whole()[1], `"J"`, `"K"`, 1)), "another job"},
		"a failure":          {[]string{eventLine(1, "result", `,"result":{"id":"J","state":"failed"}`)}, "not succeeded"},
	} {
		w := newChecker(false)
		if err := readLines(w, whole()); err != nil {
			t.Fatal(err)
		}
		switch err := readLines(w, c.lines); {
		case err == nil && c.want != "":
			t.Errorf("%s: nothing is noticed", name)
		case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnswerPieces(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\nt\r\na\r\nwo\nthree\nf\r\n4\r\nour\n\r\n0\r\n\r\n"
	for size := 1; size <= len(text); size++ {
		var a answer
		var lines []string
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			err := a.take([]byte(rest[:min(size, len(rest))]), func(line []byte) error {
				lines = append(lines, string(line))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(lines, " "); got != "one two three four" || a.part != done || a.chunks != 3 {
			t.Fatalf("in pieces of %d: %q, %d chunks, part %d", size, got, a.chunks, a.part)
		}
	}
	for _, bad := range []string{"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", text + "x"} {
		var a answer
		if a.take([]byte(bad), func([]byte) error { return nil }) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestDelayQuantiles(t *testing.T) {
	var d delays
	for i := range 100 {
		d.add(time.Duration(i) * time.Millisecond)
	}
	if p50, p99 := d.quantile(0.5), d.quantile(0.99); p50 < 50 || p50 > 50.1 || p99 < 99 || p99 > 99.1 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
