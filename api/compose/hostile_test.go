package compose_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

// hostile are files that are made to cost much. Each is at most 1 MiB.
func hostile() map[string]string {
	fill := func(s string) string { return strings.Repeat(s, 1<<18/len(s)) }
	lines := func(most int, format string) string {
		var b strings.Builder
		for i := 0; i < most && b.Len() < 1<<20-200; i++ {
			b.WriteString(strings.ReplaceAll(format, "#", fmt.Sprint(i)))
		}
		return b.String()
	}
	laughs := "x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for i := 1; i < 12; i++ {
		alias := fmt.Sprintf("*x%d", i-1)
		laughs += fmt.Sprintf("x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(alias+", ", 9), ", "))
	}
	merges := "x-0: &x0 {a: 1}\n"
	for i := 1; i < 40; i++ {
		merges += fmt.Sprintf("x-%d: &x%d {<<: [*x%d, *x%d], k%d: 1}\n", i, i, i-1, i-1, i)
	}
	// named is a service with a list of so many entries.
	named := func(name, list string, n int, entry string) string {
		return "  " + name + ": {image: a, " + list + ": [" + lines(n, entry+", ") + "]}\n"
	}
	extending := func(n int, entry string) string { return lines(n, "  s#: {extends: s"+entry+"}\n") }
	row := "services:\n" + named("s0", "profiles", 900, "p#")
	for i := 1; i < 30; i++ {
		row += fmt.Sprintf("  s%d: {extends: s%d, profiles: [%s]}\n", i, i-1, lines(900, fmt.Sprintf("p%d-#, ", i)))
	}
	image := func(s string) string { return "services: {a: {image: '" + s + "'}}" }
	return map[string]string{
		"billion laughs":             laughs + "services: {a: {image: a, command: *x11}}",
		"merges of merges":           merges + "services: {a: {image: a}}",
		"an alias of itself":         "services: &s {a: *s}",
		"a merge of itself":          "services:\n  a: &a\n    image: a\n    <<: *a\n",
		"a merge cycle":              "x-a: &a {x: &b {<<: *a}}\nservices: {a: {<<: *b}}",
		"a large text often":         "x-t: &t " + strings.Repeat("t", 500_000) + "\nservices:\n" + lines(2000, "  s#: {image: a, command: *t}\n"),
		"brackets":                   fill("["),
		"brackets that close":        strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"braces":                     fill("{a: "),
		"dashes":                     fill("- "),
		"question marks":             fill("? "),
		"short lists on a line":      "a: [" + fill("[],"),
		"short lists to the limit":   "a: [" + strings.Repeat("[],", 49_000) + "]",
		"a list on a line":           "a: [" + fill("a,") + "]",
		"a list to the limit":        "a: [" + strings.Repeat("a,", 99_000) + "]",
		"mapping keys to the limit":  "a: {" + lines(49_000, "a#: {},") + "}",
		"question marks in a line":   "a: {" + strings.Repeat("?,", 49_000) + "}",
		"anchors on a line":          fill("&a "),
		"lines of keys":              fill("a:\n"),
		"lines of keys to the limit": strings.Repeat("a:\n", 99_000),
		"indented keys": lines(1400, "a#:\n") + func() (s string) {
			for i := range 1000 {
				s += strings.Repeat(" ", i) + "a:\n"
			}
			return s
		}(),
		"comments":               fill("#\n"),
		"comments to the limit":  strings.Repeat("- 1\n# x\n", 49_000),
		"foot comments":          "a:\n" + strings.Repeat(" - 1\n\n # x\n\n", 24_000),
		"tag directives":         lines(100_000, "%TAG !a#! x\n") + "---\na: 1",
		"documents":              strings.Repeat("---\na: 1\n", 49_000),
		"documents of services":  lines(10_000, "---\nservices: {a#: {image: a}}\n"),
		"the most documents":     strings.Repeat("---\nservices:\n"+lines(180, "  a#: {image: a}\n"), 16),
		"empty documents":        strings.Repeat("---\n", 99_000),
		"a document's end":       fill("...\n"),
		"tags":                   fill("!a "),
		"quotes":                 "'" + fill("''"),
		"escapes":                "\"" + fill("\\n"),
		"a long key":             fill("k") + ": 1",
		"a long line":            "services: {a: {image: " + strings.Repeat("a", 1<<18) + "}}",
		"a long number":          "services: {a: {image: a, cpus: " + strings.Repeat("9", 1<<18) + "}}",
		"a large exponent":       "services: {a: {image: a, cpus: 1e999999999}}",
		"a long octal":           "services: {a: {image: a, scale: 0o" + strings.Repeat("7", 1<<18) + "}}",
		"a sexagesimal":          "services: {a: {image: a, scale: " + fill("1:") + "1}}",
		"10,000 services":        "services:\n" + lines(10_000, "  s#: {image: i#}\n"),
		"3,000 services":         "services:\n" + lines(3000, "  s#: {image: i#}\n"),
		"services that all fail": "services:\n" + lines(2900, "  s#: {image: [], build: 1, ports: {}, x: 1}\n"),
		"a row of extends": "services:\n  s0: {image: a}\n" + func() (s string) {
			for i := 1; i < 5000; i++ {
				s += fmt.Sprintf("  s%d: {extends: s%d, profiles: [p%d]}\n", i, i-1, i)
			}
			return s
		}(),
		"all extend one":          "services:\n  s: {image: a, profiles: [" + strings.Repeat("p,", 4000) + "]}\n" + lines(9000, "  s#: {extends: s}\n"),
		"all extend 900 profiles": "services:\n" + named("s", "profiles", 900, "p#") + extending(2900, ""),
		"all extend 200 profiles": "services:\n" + named("s", "profiles", 200, "p#") + extending(200, ", profiles: ["+lines(200, "q#, ")+"]"),
		"all extend 900 volumes":  "services:\n" + named("s", "volumes", 900, "{type: image, source: b#, target: /t#}") + extending(300, ""),
		"all extend 900 hooks":    "services:\n" + named("s", "pre_start", 900, "{image: b#}") + extending(300, ""),
		"all extend a long text":  "services:\n  s: {image: a, profiles: ['" + strings.Repeat("p", 4000) + "']}\n" + extending(2900, ""),
		"a row of profiles":       row,
		"hooks upon hooks":        "services:\n" + named("s", "pre_start", 1800, "{image: b#}") + "  t: {extends: s, pre_start: [" + lines(1800, "{image: c#}, ") + "]}\n",
		"documents of profiles":   strings.Repeat("---\nservices:\n"+named("s", "profiles", 2200, "p#"), 16),
		"documents of extends":    strings.Repeat("---\nservices:\n"+named("s", "profiles", 200, "p#")+extending(100, ""), 16),
		"profiles to the limit":   "services:\n" + named("s", "profiles", 24_000, "p#"),
		"many hooks":              "services:\n" + named("s", "pre_start", 3000, "{image: b#}"),
		"extends to the limit":    "services:\n" + named("s", "profiles", 900, "p#") + extending(24, ""),
		"merges to the limit":     "services:\n" + named("s", "pre_start", 800, "{image: b, command: a#}") + "  t: {extends: s, pre_start: [" + lines(600, "{image: b, command: b#}, ") + "]}\n",
		"documents to the limit": func() (s string) {
			for i := range 16 {
				s += "---\nservices:\n" + lines(80, fmt.Sprintf("  s%d-#: {image: a, platform: linux/amd64}\n", i))
			}
			return s
		}(),
		"unset variables":       "services:\n" + named("s", "profiles", 200, "'#"+strings.Repeat("$A#$B#", 250)+"'"),
		"all depend on all":     "services:\n" + lines(250, "  s#: {image: a, depends_on: ["+strings.TrimSuffix(strings.Repeat("s1,", 250), ",")+"]}\n"),
		"merges of one":         "x-b: &b {" + lines(1000, "x-#: 1, ") + "image: a}\nservices:\n" + lines(10_000, "  s#: {<<: *b}\n"),
		"nested variables":      image(strings.Repeat("${A:-", 150_000) + strings.Repeat("}", 150_000)),
		"open variables":        image(strings.Repeat("${A:-", 200_000)),
		"dollars":               image(fill("$")),
		"a variable often":      image(strings.Repeat("${LONG}", 500)),
		"a variable very often": image(strings.Repeat("$LONG", 200_000)),
		"policies of variables": "services:\n" + lines(5000, "  s#: {image: a, pull_policy: '"+strings.Repeat("${A:-", 20)+"missing"+strings.Repeat("}", 20)+"'}\n"),
		"profiles of variables": "services:\n" + lines(5000, "  s#: {image: a, profiles: ['"+strings.Repeat("${A:-", 20)+"x"+strings.Repeat("}", 20)+"']}\n"),
		"many unknown keys":     "services: {a: {image: a, " + lines(30_000, "k#: 1, ") + "}}",
		"many networks":         "services: {a: {image: a}}\nnetworks:\n" + lines(30_000, "  n#:\n"),
		"many ports":            "services: {a: {image: a, ports: [" + lines(30_000, "'1-60000:1-60000',") + "]}}",
		"many dotted names":     "services:\n" + lines(5000, "  a.a.a.a.a.a.a.a.a.a.a.#: {image: [1]}\n"),
	}
}

// multiplying are files whose cost grows with more than their size, and whether
// that is too much.
var multiplying = map[string]bool{
	"all extend 900 profiles": true, "all extend 200 profiles": true, "all extend 900 volumes": true, "all extend 900 hooks": true,
	"all extend a long text": true, "a row of profiles": true, "hooks upon hooks": true, "documents of profiles": true,
	"documents of extends":  true,
	"profiles to the limit": false, "many hooks": false, "extends to the limit": false, "merges to the limit": false,
	"documents to the limit": false, "3,000 services": false,
}

// Limits of what a file may cost. They are counts, not times, so that a busy
// machine does not matter. What takes long allocates much, but for comparisons:
// those are bounded by what is refused of multiplying.
const (
	maxMallocs = 6_000_000
	maxBytes   = 1 << 30
)

// cost returns how many objects and bytes are allocated meanwhile, by whatever
// runs at the time.
func cost(work func()) (mallocs, bytes uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc
}

func TestParseHostile(t *testing.T) {
	variables := map[string]string{"LONG": strings.Repeat("x", 100_000)}
	for name, file := range hostile() {
		t.Run(name, func(t *testing.T) {
			if len(file) > 1<<20 {
				t.Fatalf("%d bytes", len(file))
			}
			var r puller.PrewarmRequest
			var err error
			began := time.Now()
			mallocs, bytes := cost(func() { r, err = compose.Parse(t.Context(), []byte(file), variables, []string{"*"}) })
			took := time.Since(began)
			said := fmt.Sprintf("%d images", len(r.Images))
			if err != nil {
				said = err.Error()
				if puller.KindOf(err) != puller.ErrInvalidRequest {
					t.Errorf("kind %s: %v", puller.KindOf(err), err)
				}
				if len(said) > 1000 {
					t.Errorf("an error of %d bytes", len(said))
				}
			}
			t.Logf("%7d bytes %6s %7d objects %4d MiB  %.120s", len(file), took.Round(time.Millisecond), mallocs, bytes>>20, said)
			if refused, multiplies := multiplying[name]; multiplies {
				if got := err != nil && strings.Contains(said, "too much to merge") && strings.Contains(said, "line "); got != refused {
					t.Errorf("refused: %t", got)
				}
			}
			if mallocs > maxMallocs || bytes > maxBytes {
				t.Errorf("%d objects, %d MiB", mallocs, bytes>>20)
			}
		})
	}
}

func TestParseCancelled(t *testing.T) {
	gone := errors.New("the caller has left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := compose.Parse(ctx, []byte("services: {a: {image: a}}"), nil, nil); !errors.Is(err, gone) {
		t.Error(err)
	}
}
