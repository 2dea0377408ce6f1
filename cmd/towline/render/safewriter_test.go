package render_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/render"
)

func TestSafeWriter(t *testing.T) {
	long := strings.Repeat("x", render.MaxSequence)
	for name, row := range map[string]struct{ printed, shown string }{
		"text":                        {"a\tb\r\nhéllo 世界 🌍\n", "a\tb\r\nhéllo 世界 🌍\n"},
		"colours":                     {"\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mmore\x1b[m", "red more"},
		"colours with colons":         {"\x1b[38:2::1:2:3mmore", "more"},
		"the cursor":                  {"a\x1b[2J\x1b[1;1H\x1b[?25lb\x1b[ q", "ab"},
		"an answer is asked for":      {"a\x1b[6n\x1b[c\x1bZb", "ab"},
		"a title":                     {"a\x1b]0;title\x07b\x1b]2;title\x1b\\c", "abc"},
		"a title of screen":           {"a\x1bktitle\x1b\\b", "ab"},
		"a link":                      {"\x1b]8;;https://a.test\x1b\\text\x1b]8;;\x1b\\", "text"},
		"the clipboard":               {"a\x1b]52;c;ZXZpbA==\x07b", "ab"},
		"an image":                    {"a\x1bPq#0;2;0;0;0\n#0~~@@\x1b\\b\x1b_Gf=32;AAAA\x1b\\c", "abc"},
		"a bell does not end a DCS":   {"a\x1bPq\x07rest\x1b\\b", "ab"},
		"other strings":               {"a\x1bXsos\x1b\\b\x1b^pm\x1b\\c", "abc"},
		"a string in a string":        {"a\x1bPdcs\x1b]0;title\x07b", "ab"},
		"two characters":              {"\x1bca\x1b7b\x1b(Bc\x1b#8d\x1b%Ge\x1b F", "abcde"},
		"C1":                          {"a\u009b31mb\u009d0;title\u009cc\u0090q\u009cd\u009fx\u009ce", "abcde"},
		"C1 ends a string":            {"a\x1b]0;title\u009cb", "ab"},
		"C1 without a sequence":       {"a\u0085b\u008dc\u009cd", "a\ufffdb\ufffdcd"},
		"a sequence is cancelled":     {"a\x1b[3\x18b\x1b]0;t\x1ac", "abc"},
		"an escape breaks one off":    {"a\x1b[3\x1b[31mb\x1b\x1b[0mc", "abc"},
		"a line end in one":           {"a\x1b[3\n1mb", "a\nb"},
		"a control character in one":  {"a\x1b[3\x08\x7f1mb", "ab"},
		"no ASCII in one":             {"a\x1b[3éb\x1b世c\x1b[\xff31m", "aéb世c\ufffd31m"},
		"control characters":          {"a\bb\x07c\x00d\x7fe\x0ff", "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf"},
		"the order of reading":        {"a\u202eb\u2066c", "a\ufffdb\ufffdc"},
		"no UTF-8":                    {"a\xffb\x9b31mc\xc3(", "a\ufffdb\ufffd31mc\ufffd("},
		"a sequence without an end":   {"a\x1b[3", "a"},
		"an escape at the end":        {"a\x1b", "a"},
		"an unending string":          {"a\x1b]" + long + "yz", "ayz"},
		"an unending sequence":        {"a\x1b[" + strings.Repeat("1", render.MaxSequence) + "1mz", "a1mz"},
		"an unending row":             {"a\x1b" + strings.Repeat(" ", render.MaxSequence) + " mz", "amz"},
		"a string of escapes":         {"a" + strings.Repeat("\x1b", 1000) + "[mz", "az"},
		"what is no sequence is kept": {"[31m ]0;title 0m", "[31m ]0;title 0m"},
	} {
		t.Run(name, func(t *testing.T) {
			at := len(row.printed) // where it is cut in two
			if at < 100 {
				at = 0
			}
			for ; at <= len(row.printed); at++ {
				var screen bytes.Buffer
				w := render.NewSafeWriter(&screen)
				for _, part := range []string{row.printed[:at], row.printed[at:]} {
					if n, err := io.WriteString(w, part); n != len(part) || err != nil {
						t.Errorf("%d, %v", n, err)
					}
				}
				if screen.String() != row.shown {
					t.Fatalf("cut at %d: %.200q, want %.200q", at, screen.String(), row.shown)
				}
			}
			var screen bytes.Buffer
			w := render.NewSafeWriter(&screen)
			if len(row.printed) < 100 {
				for i := range len(row.printed) {
					w.Write([]byte{row.printed[i]})
				}
				if screen.String() != row.shown {
					t.Errorf("byte for byte: %q", screen.String())
				}
			}
		})
	}
}

func FuzzSafeWriter(f *testing.F) {
	f.Add("a\x1b[31mb", 3)
	f.Add("\x1b]0;t\u009c\x9b", 2)
	f.Fuzz(func(t *testing.T, printed string, at int) {
		var whole, parts bytes.Buffer
		io.WriteString(render.NewSafeWriter(&whole), printed)
		at = min(max(at, 0), len(printed))
		w := render.NewSafeWriter(&parts)
		io.WriteString(w, printed[:at])
		io.WriteString(w, printed[at:])
		if whole.String() != parts.String() {
			t.Errorf("%q in two parts is %q", whole.String(), parts.String())
		}
		checkSafe(t, strings.NewReplacer("\r", "", "\t", "").Replace(whole.String()))
	})
}
