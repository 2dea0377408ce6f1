package command

import (
	"io"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/cmd/towline/render"
)

// RedirectWarnings prints the warnings of compose-go to out, each once, until
// restore is called. With quiet it prints only those of variables without a value:
// they may change which image is pulled.
func RedirectWarnings(out io.Writer, quiet bool) (restore func()) {
	standard := logrus.StandardLogger()
	before, formatter := standard.Out, standard.Formatter
	standard.SetOutput(out)
	standard.SetFormatter(warningFormatter{quiet, make(map[string]bool)})
	return func() {
		standard.SetOutput(before)
		standard.SetFormatter(formatter)
	}
}

type warningFormatter struct {
	quiet   bool
	printed map[string]bool
}

func (w warningFormatter) Format(e *logrus.Entry) ([]byte, error) {
	if w.printed[e.Message] || w.quiet && !strings.Contains(e.Message, "variable is not set") {
		return nil, nil
	}
	w.printed[e.Message] = true
	return []byte("towline: " + e.Level.String() + ": " + render.SafeText(e.Message) + "\n"), nil
}
