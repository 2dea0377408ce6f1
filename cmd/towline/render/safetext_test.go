package render_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/render"
)

func TestSafeText(t *testing.T) {
	for given, want := range map[string]string{
		"docker.io/library/alpine:3.20": "docker.io/library/alpine:3.20",
		"héllo, 世界 🌍":                   "héllo, 世界 🌍",
		"a\x1b]0;title\x07b":            "a�]0;title�b",
		"a\u009b2Jb\x90q\x9c":           "a�2Jb�q�",
		"pulled\r\n\tfailed":            "pulled   failed",
		"a\u202eb\u2066c\u200fd\u061ce": "a�b�c�d�e",
		"a\u2028b\u2029c\u0085d":        "a�b�c�d",
		"a\x00b\x7fc\u00add\ufeffe":     "a�b�c�d�e",
	} {
		if got := render.SafeText(given); got != want {
			t.Errorf("%q is printed as %q", given, got)
		}
	}
}

func TestNewJSON(t *testing.T) {
	given := []any{nasty, "\U000e0041\U0001f30d", "\x80", map[string]any{nasty: "\u00a0<&>"}}
	var out bytes.Buffer
	e := render.NewJSON(&out)
	e.SetIndent("", "  ")
	if err := e.Encode(given); err != nil {
		t.Fatal(err)
	}
	checkSafe(t, out.String())
	var plain bytes.Buffer
	json.NewEncoder(&plain).Encode(given)
	var got, want any
	if err := errors.Join(json.Unmarshal(out.Bytes(), &got), json.Unmarshal(plain.Bytes(), &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", out.String(), diff)
	}
}
