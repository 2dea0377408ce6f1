package redact_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller/redact"
)

func TestURLQueries(t *testing.T) {
	for text, want := range map[string]string{
		"":             "",
		"what is it?":  "what is it?",
		"https://a/b":  "https://a/b",
		"https://a/b?": "https://a/b?(hidden)",
		"GET https://a/b?X-Amz-Signature=42&X-Amz-Date=1: 403 Forbidden":     "GET https://a/b?(hidden): 403 Forbidden",
		`Get "https://a:5000/b?sig=a%2Fb%3D&se=1": EOF`:                      `Get "https://a:5000/b?(hidden)": EOF`,
		`body: "Get \"https://a/b?Signature=42~_&Key-Pair-Id=K\": EOF"`:      `body: "Get \"https://a/b?(hidden)\": EOF"`,
		`{"url":"https://a/b?x=1\u0026sig=42"}`:                              `{"url":"https://a/b?(hidden)"}`,
		"HTTPS://A/b?SIG=42 and http://c/d?sig=43, (http://e?sig=44).":       "HTTPS://A/b?(hidden) and http://c/d?(hidden), (http://e?(hidden)).",
		`{"url":"https:\/\/a\/b?sig=42","n":1}`:                              `{"url":"https:\/\/a\/b?(hidden)","n":1}`,
		"urlhttps://a/b?sig=42 x":                                            "urlhttps://a/b?(hidden) x",
		"<URL>https://a/b?x=1&amp;sig=42</URL>":                              "<URL>https://a/b?(hidden)</URL>",
		"https://a/b?sig=a:b?c:d: 403":                                       "https://a/b?(hidden): 403",
		"https://a/b?one=1\nhttps://a/b?sig=42":                              "https://a/b?(hidden)\nhttps://a/b?(hidden)",
		"is https://a/b there? GET https://a/b?sig='42'&x=`y`: 403 (hidden)": "is https://a/b there? GET https://a/b?(hidden): 403 (hidden)",
	} {
		if got := redact.URLQueries(text); got != want {
			t.Errorf("%q becomes %q, not %q", text, got, want)
		}
	}
}

func FuzzURLQueries(f *testing.F) {
	f.Add("GET ", ": 403")
	f.Add(`Get "`, `": EOF`)
	f.Add("", `\`)
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + " https://a.test/b?X-Amz-Signature=5ec4e7" + after
		if got := redact.URLQueries(text); strings.Contains(got, "5ec4e7") && !strings.Contains(before+after, "5ec4e7") {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}
