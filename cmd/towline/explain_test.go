package main

import (
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
)

func TestExplain(t *testing.T) {
	code, out, err := run(t.Context(), "explain")
	if checkWords(t, out, "not_found  ", "internal  "); code != 0 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	code, out, err = run(t.Context(), "explain", "denied")
	if checkWords(t, out, "denied\n\nThe registry refuses access.", "Towline already: ", "To mend it: ", "docker login"); code != 0 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	for _, args := range [][]string{{"explain", "nonsense"}, {"explain", "denied", "corrupt"}} {
		if code, out, err := run(t.Context(), args...); code != exit.CodeUsage || out != "" {
			t.Errorf("%q: %d, %v: %s", args, code, err, out)
		}
	}
}
