package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/distribution/reference"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
	"github.com/towline/towline/puller/rules"
)

// currentRules are rules that a reload replaces. The jobs that were accepted before stay
// accepted.
type currentRules struct{ rules atomic.Pointer[puller.Rules] }

func (c *currentRules) set(r puller.Rules) { c.rules.Store(&r) }

// Check implements puller.Rules.
func (c *currentRules) Check(kind puller.JobKind, named reference.Named, r puller.PullRequest) error {
	if now := *c.rules.Load(); now != nil {
		return now.Check(kind, named, r)
	}
	return nil
}

// CheckName implements puller.Rules.
func (c *currentRules) CheckName(named reference.Named) error {
	if now := *c.rules.Load(); now != nil {
		return now.CheckName(named)
	}
	return nil
}

// reloadable are the keys, and sections of keys, that a reload applies.
var reloadable = []string{"log.level", "rules", "registries.credentials", "registries.docker_config"}

func isReloadable(key string) bool {
	return slices.ContainsFunc(reloadable, func(r string) bool { return key == r || strings.HasPrefix(key, r+".") })
}

// reloader applies what may change while the daemon runs.
type reloader struct {
	load   func() (configs.Config, error)
	config configs.Config // as it is applied
	logger *logrus.Logger
	rules  *currentRules
	images *registry.Client
}

// run reloads the configuration at each signal until ctx ends.
func (r *reloader) run(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-signals:
			if err := r.reload(); err != nil {
				r.logger.WithError(err).Error("the configuration was not reloaded; the one before still counts")
			}
		case <-ctx.Done():
			return
		}
	}
}

// reload applies all of a new configuration that it can, or nothing.
func (r *reloader) reload() error {
	c, err := r.load()
	if err != nil {
		return err
	}
	level, err := logrus.ParseLevel(c.Log.Level)
	if err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	forbidden, err := rules.Parse("rules", c.Rules.Pull, c.Rules.Run)
	if err != nil {
		return err
	}
	if err := r.images.SetLogins(logins(c.Registries), c.Registries.DockerConfig); err != nil {
		return err
	}
	r.rules.set(forbidden)
	r.logger.SetLevel(level)
	var applied, restart []string
	for _, key := range configs.Changed(r.config, c) {
		if isReloadable(key) {
			applied = append(applied, key)
		} else {
			restart = append(restart, key)
		}
	}
	// What needs a restart stays as it was, so that the next reload names it again.
	r.config.Log.Level, r.config.Rules = c.Log.Level, c.Rules
	r.config.Registries.Credentials, r.config.Registries.DockerConfig = c.Registries.Credentials, c.Registries.DockerConfig
	entry := r.logger.WithField("changed", strings.Join(applied, ", "))
	if len(restart) > 0 {
		entry.WithField("not_applied", strings.Join(restart, ", ")).Warn("the configuration was reloaded, but some keys need a restart of the daemon")
		return nil
	}
	entry.Info("the configuration was reloaded")
	return nil
}
