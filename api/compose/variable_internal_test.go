package compose

import (
	"io"
	"os"
	"reflect"
	"testing"

	"github.com/compose-spec/compose-go/v2/template"
	"github.com/sirupsen/logrus"
)

var sample = map[string]string{"A": "a", "EMPTY": "", "lower_1": "l"}

func sampled(name string) (string, bool) {
	v, ok := sample[name]
	return v, ok
}

// expand has the results of compose-go, which docker compose uses.
func TestExpand(t *testing.T) {
	logrus.SetOutput(io.Discard)
	defer logrus.SetOutput(os.Stderr)
	for _, text := range []string{
		"", "plain", "$A", "${A}", "x${A}y$A", "$$A", "$${A}", "$lower_1", "${lower_1}x", "$A_", "$NONE", "${NONE}",
		"${A:-d}", "${EMPTY:-d}", "${NONE:-d}", "${A-d}", "${EMPTY-d}", "${NONE-d}", "${NONE:-}", "${NONE-}",
		"${A:+i}", "${EMPTY:+i}", "${NONE:+i}", "${A+i}", "${EMPTY+i}", "${NONE+i}",
		"${A:?m}", "${EMPTY:?m}", "${NONE:?m}", "${A?m}", "${EMPTY?m}", "${NONE?m}", "${NONE:?}", "${NONE:?no $A here}",
		"${NONE:-${A}}", "${NONE:-${NONE:-d}}", "${NONE:-x${A}y}z", "${A:-${NONE:?m}}", "${NONE:+${NONE:?m}}", "${NONE:-${NONE:?m}}",
		"${NONE:-a:b-c}", "${NONE:-$$}", "${NONE:-a}${NONE:-b}", "r.io/${A:-x}:${NONE:-1.2-3}@x",
		"${", "${A", "${}", "${1}", "${A:}", "${A!x}", "${ A}", "${A:-", "${NONE:-${A}",
	} {
		want, wantErr := template.Substitute(text, sampled)
		got, _, err := expand(text, sampled)
		if (err == nil) != (wantErr == nil) || err == nil && got != want {
			t.Errorf("%s: %q, %v; compose has %q, %v", text, got, err, want, wantErr)
		}
	}
}

func TestExpandUnset(t *testing.T) {
	for text, want := range map[string][]string{
		"$A${EMPTY}":          nil,
		"$X:${Y}:$X":          {"X", "Y"},
		"${X:-${Y}}":          {"Y"},
		"${A:-${Y}}":          nil,
		"${X:+${Y}}${X-}":     nil,
		"${A:+${Y}}":          {"Y"},
		"${EMPTY:-a}${Z:+$X}": nil,
	} {
		if _, got, err := expand(text, sampled); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}
