package outputlog_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/towline/towline/stream/outputlog"
)

// decode decodes what was printed in pieces, and returns the texts, through JSON.
func decode(t *testing.T, pieces [][]byte) []outputlog.Text {
	t.Helper()
	var decoder outputlog.TextDecoder
	var texts []outputlog.Text
	given, decoded := 0, 0
	take := func(text outputlog.Text, n int, ok bool) {
		t.Helper()
		b, err := text.Bytes()
		if err != nil || len(b) != n || ok != (n > 0) {
			t.Fatalf("%q has %d bytes, not %d (%v), %v", text, len(b), n, ok, err)
		}
		if decoded += n; ok {
			data, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			var back outputlog.Text
			if err := json.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			texts = append(texts, back)
		}
	}
	for _, p := range pieces {
		given += len(p)
		p = bytes.Clone(p)
		take(decoder.Decode(p))
		if given-decoded > 3 || given < decoded {
			t.Fatalf("%d bytes are pending", given-decoded)
		}
		clear(p) // it is the caller's again
	}
	take(decoder.Flush())
	take(decoder.Flush())
	return texts
}

func checkDecoded(t *testing.T, pieces [][]byte) []outputlog.Text {
	t.Helper()
	texts := decode(t, pieces)
	var back []byte
	for _, text := range texts {
		b, _ := text.Bytes()
		back = append(back, b...)
	}
	whole := bytes.Join(pieces, nil)
	if !bytes.Equal(back, whole) {
		t.Fatalf("%q came back as %q", whole, back)
	}
	if utf8.Valid(whole) {
		for _, text := range texts {
			if text.Encoding != "" {
				t.Fatalf("of %q a part came as %+v", pieces, text)
			}
		}
	}
	return texts
}

func TestTextsDecodeToTheSameBytes(t *testing.T) {
	for _, whole := range []string{"", "a", "héllo, 世界 🌍\n", "🌍🌍", "a\x00b\x1b[0m", "\xff", "\xf0\x9f", "a\xe4\xb8", "\x80\x80é", "\xed\xa0\x80", "é\xffé", "\xc0\xaf", "\uFFFD", "\u2028<&>"} {
		for i := range len(whole) + 1 {
			for j := i; j <= len(whole); j++ {
				checkDecoded(t, [][]byte{[]byte(whole[:i]), []byte(whole[i:j]), []byte(whole[j:])})
			}
		}
		var single [][]byte
		for i := range len(whole) {
			single = append(single, []byte(whole[i:i+1]))
		}
		checkDecoded(t, single)
	}
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "é", "世", "🌍", "\n", "\xff", "\x80", "\xf0\x9f", "\xe4"}
	for range 20_000 {
		letters := alphabet
		if random.IntN(2) == 0 {
			letters = alphabet[:5]
		}
		var b strings.Builder
		for range random.IntN(20) {
			b.WriteString(letters[random.IntN(len(letters))])
		}
		var pieces [][]byte
		for rest := []byte(b.String()); len(rest) > 0; {
			n := random.IntN(min(len(rest), 6)) + 1
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		checkDecoded(t, pieces)
	}
}

func TestBytesThatAreNoTextAreBase64(t *testing.T) {
	tests := []struct {
		pieces []string
		want   []outputlog.Text
	}{
		{[]string{"caf\xc3", "\xa9"}, []outputlog.Text{{Text: "caf"}, {Text: "é"}}},
		{[]string{"a\xff\xc3", "\xa9"}, []outputlog.Text{{Text: "Yf8=", Encoding: "base64"}, {Text: "é"}}},
		{[]string{"a\xf0\x9f\x8c"}, []outputlog.Text{{Text: "a"}, {Text: "8J+M", Encoding: "base64"}}},
		{[]string{"\xf0", "x"}, []outputlog.Text{{Text: "8Hg=", Encoding: "base64"}}},
	}
	for _, test := range tests {
		var pieces [][]byte
		for _, p := range test.pieces {
			pieces = append(pieces, []byte(p))
		}
		got := checkDecoded(t, pieces)
		if len(got) != len(test.want) {
			t.Errorf("%q: got %+v", test.pieces, got)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%q: got %+v, want %+v", test.pieces, got, test.want)
			}
		}
	}
	for _, text := range []outputlog.Text{{Text: "a", Encoding: "rot13"}, {Text: "?", Encoding: "base64"}} {
		if _, err := text.Bytes(); err == nil {
			t.Errorf("%+v is read", text)
		}
	}
}

func FuzzTextDecoder(f *testing.F) {
	f.Add([]byte("héllo, 世界 🌍"), uint(3))
	f.Add([]byte("\xf0\x9f\xff"), uint(1))
	f.Fuzz(func(t *testing.T, whole []byte, n uint) {
		var pieces [][]byte
		for rest := whole; len(rest) > 0; {
			size := min(int(n%7)+1, len(rest))
			pieces, rest = append(pieces, rest[:size]), rest[size:]
			n = n*31 + 7
		}
		checkDecoded(t, pieces)
	})
}
