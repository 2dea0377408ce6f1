package daemon

import (
	"context"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/cmd/towline/socket"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
)

// engineLimit is how long the engine may take to answer at the start.
const engineLimit = 5 * time.Second

// reportEngine logs whether the engine answers, and what to do if it does not. Jobs wait
// for an engine that comes later.
func reportEngine(ctx context.Context, engine *docker.Engine, log logrus.FieldLogger) {
	asking, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	info, err := engine.Info(asking)
	log = log.WithField("engine", engine.Host())
	switch {
	case ctx.Err() != nil:
	case err == nil:
		log.WithFields(logrus.Fields{"name": info.Name, "engine_version": info.Version, "image_store": info.ImageStore}).Info("the engine answers")
	default:
		log.WithField("error", engineFix(engine.Host(), err)).Warn("the engine does not answer; jobs wait for it")
	}
}

// engineFix says why an engine does not answer, and what to do.
func engineFix(host string, err error) string {
	if path, ok := socket.Path(host); ok {
		if fault := socket.Check(path, startEngine); fault != nil {
			return fault.Error()
		}
	}
	return strings.TrimRight(puller.Inner(err).Error(), ".") + ". Start the engine (" + startEngine + "), or set engine.host to its address"
}

const startEngine = "systemctl start docker"
