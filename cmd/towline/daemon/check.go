package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/cmd/towline/daemon/membership"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/keep/schedule"
	"github.com/towline/towline/puller/registry"
	"github.com/towline/towline/puller/rules"
)

// Check checks a configuration, with the files that it names, and whether the engine
// answers. It starts nothing. The error is the first fault. It tells out what is right.
func Check(ctx context.Context, c configs.Config, out io.Writer) error {
	log := logrus.New()
	log.SetOutput(io.Discard)
	engine, err := docker.New(docker.Options{Host: c.Engine.Host, APIVersion: c.Engine.APIVersion, Log: log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	defer engine.Close()
	if _, err := rules.Parse("rules", c.Rules.Pull, c.Rules.Run); err != nil {
		return err
	}
	images, err := registry.New(registryOptions(c.Registries, engine))
	if err != nil {
		return err
	}
	images.Close()
	for i, login := range c.Registries.Credentials {
		// Another user than the daemon's may not be able to see it.
		if _, err := os.Stat(login.PasswordFile); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("registries.credentials[%d].password_file: %w", i, err)
		}
	}
	if c.Auth.TokenFile != "" {
		if _, err := auth.OpenTokens(c.Auth.TokenFile, log); err != nil {
			return fmt.Errorf("auth.token_file: %w", err)
		}
	}
	if _, err := newCertificates(c.Auth, log); err != nil {
		return fmt.Errorf("auth.tls.cert: %w", err)
	}
	if c.SocketGroup != "" {
		if _, err := groupID(c.SocketGroup); err != nil {
			return err
		}
	}
	if _, err := schedule.New(schedule.Request{Schedule: c.Keep.LearnSchedule}); err != nil {
		return fmt.Errorf("keep.learn_schedule: %w", err)
	}
	if err := membership.Check(c.Fleet); err != nil {
		return err
	}
	switch info, err := os.Stat(c.StateDir); {
	case errors.Is(err, fs.ErrNotExist): // the start makes it
	case err != nil:
		return fmt.Errorf("state_dir: %w", err)
	case !info.IsDir():
		return fmt.Errorf("state_dir: %s is no directory; remove the file, or name another path", c.StateDir)
	}
	fmt.Fprintln(out, "the configuration is valid")
	asking, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	info, err := engine.Info(asking)
	if err != nil {
		return puller.Errorf(puller.ErrEngineUnavailable, "the engine at %s does not answer: %s", engine.Host(), engineFix(engine.Host(), err))
	}
	fmt.Fprintf(out, "the engine at %s answers: %s %s\n", engine.Host(), info.Name, info.Version)
	return nil
}
