package daemon

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
)

// TestOutputIsSafe runs all commands on texts with control characters. They print
// none of them.
// nasty is text that moves the cursor, breaks lines and hides what follows.
const nasty = "x\x1b[2J\r\n\x07\u009b31m\u202etxt\u2028\x00\x7f"

func TestLogEntriesAreSafeLines(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, level := range []logrus.Level{logrus.InfoLevel, logrus.ErrorLevel} {
			var out bytes.Buffer
			logger := newLogger(configs.Log{Level: "info", Format: format}, &out)
			logger.WithError(errors.New(nasty)).WithField("image", nasty).WithField("bytes", []byte(nasty)).Logf(level, "engine: %s", nasty)
			unsafe := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
			if strings.ContainsFunc(out.String(), unsafe) || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "engine: x") {
				t.Errorf("%s: %q", format, out.String())
			}
		}
	}
	// On a terminal, too.
	if f, ok := newLogger(configs.Log{Level: "info", Format: "text"}, io.Discard).Formatter.(*logrus.TextFormatter); !ok || !f.DisableColors || f.DisableQuote {
		t.Errorf("messages are not quoted on a terminal")
	}
}
