package explain_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/explain"
	"github.com/towline/towline/puller"
)

func TestSections(t *testing.T) {
	var kinds []string
	for _, kind := range puller.ErrorKinds() {
		kinds = append(kinds, string(kind))
		t.Run(string(kind), func(t *testing.T) {
			section := explain.Section(kind)
			for _, part := range []string{"\n\nTowline already: ", "\n\nLook at: ", "\n\nTo mend it: ", "\n\n    "} {
				if strings.Count(section, part) != 1 {
					t.Errorf("%q is not in it once:\n%s", part, section)
				}
			}
			if advice := explain.Advice(kind); advice == "" || len(advice) > 120 || strings.ContainsAny(advice, "`\n") || !strings.HasSuffix(advice, ".") {
				t.Errorf("the advice is %q", advice)
			}
		})
	}
	page, err := os.ReadFile("TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(string(page), -1) {
		titles = append(titles, m[1])
	}
	if diff := cmp.Diff(kinds, titles); diff != "" {
		t.Errorf("the sections (-kinds +titles):\n%s", diff)
	}
	if explain.Section("of_a_later_daemon") != "" || explain.Advice("of_a_later_daemon") != "" {
		t.Error("a kind that is not known has a section")
	}
}

func TestWrite(t *testing.T) {
	var out strings.Builder
	if err := explain.Write(&out, puller.ErrCorrupt); err != nil || !strings.HasPrefix(out.String(), "corrupt\n\nWhat arrived does not have its digest.\n\n") || !strings.HasSuffix(out.String(), "\n    towline pull alpine:3.20\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestList(t *testing.T) {
	var out strings.Builder
	if err := explain.List(&out); err != nil || strings.Count(out.String(), "\n") != len(puller.ErrorKinds()) || !strings.Contains(out.String(), "\ncorrupt               What arrived does not have its digest.\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}
