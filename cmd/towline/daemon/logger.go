package daemon

import (
	"io"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/configs"
)

func newLogger(c configs.Log, out io.Writer) *logrus.Logger {
	logger := logrus.New()
	logger.SetOutput(out)
	if level, err := logrus.ParseLevel(c.Level); err == nil {
		logger.SetLevel(level)
	}
	// With colours, logrus does not quote messages.
	logger.SetFormatter(&logrus.TextFormatter{DisableColors: true})
	if c.Format == "json" {
		logger.SetFormatter(&safeJSONFormatter{})
	}
	return logger
}

// safeJSONFormatter writes JSON that is safe to print on a terminal.
type safeJSONFormatter struct{ logrus.JSONFormatter }

func (f *safeJSONFormatter) Format(e *logrus.Entry) ([]byte, error) {
	line, err := f.JSONFormatter.Format(e)
	return render.SafeJSON(line), err
}

// serverLog logs the faults of connections that net/http reports.
type serverLog struct{ logger *logrus.Logger }

func (l serverLog) Write(message []byte) (int, error) {
	l.logger.Debug(strings.TrimSuffix(string(message), "\n"))
	return len(message), nil
}
