package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/towline/towline/integration/lab"
)

// address is where links listen: no loopback address, so that nobody takes the
// registry for one of this machine's own. It is set up for the bench alone.
const address = "10.199.83.1"

// site is what all scenarios use.
type site struct {
	options
	dir       string
	engine    *lab.Engine // as engines are by default
	wide      *lab.Engine // fetches 16 layers at a time
	registry  *lab.Registry
	compose   string // the plugin's binary, "" where there is none
	version   string // of the engine
	addressed bool
	images    map[string][]image // that were pushed, by kind
}

func (s *site) open(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "tl"); err != nil {
		return err
	}
	if s.bin == "" {
		if s.bin, err = lab.BuildTowline(ctx, s.dir); err != nil {
			return err
		}
	}
	if out, err := exec.CommandContext(ctx, "ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
		return fmt.Errorf("ip address add %s: %w: %s", address, err, out)
	}
	s.addressed = true
	for name, engine := range map[string]**lab.Engine{"stock": &s.engine, "wide": &s.wide} {
		flags := []string{"--insecure-registry=" + address + "/32"}
		if name == "wide" {
			flags = append(flags, "--max-concurrent-downloads=16")
		}
		if *engine, err = lab.Private(ctx, filepath.Join(s.dir, name), lab.PrivateOptions{Flags: flags}); err != nil {
			return err
		}
	}
	if s.version, err = version(ctx, s.engine); err != nil {
		return err
	}
	if s.registry, err = lab.StartRegistry(lab.RegistryOptions{Sendfile: true}); err != nil {
		return err
	}
	if s.compose, err = exec.LookPath("docker-compose"); err != nil {
		fmt.Println("docker-compose is not in PATH: it is not measured")
	}
	s.images = map[string][]image{}
	return nil
}

func (s *site) close() error {
	var errs []error
	for _, engine := range []*lab.Engine{s.engine, s.wide} {
		if engine != nil {
			errs = append(errs, engine.Close())
		}
	}
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	if s.addressed {
		errs = append(errs, exec.Command("ip", "address", "del", address+"/32", "dev", "lo").Run())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func version(ctx context.Context, engine *lab.Engine) (string, error) {
	resp, err := engine.Do(ctx, http.MethodGet, "/version", nil, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var v struct{ Version string }
	err = json.NewDecoder(resp.Body).Decode(&v)
	return "dockerd " + v.Version, err
}

// empty takes all images from an engine, and has the disk take what it is to write.
func empty(ctx context.Context, engine *lab.Engine, refs []string) error {
	for _, ref := range refs {
		if err := engine.RemoveImage(ctx, ref); err != nil {
			return err
		}
	}
	resp, err := engine.Do(ctx, http.MethodPost, `/images/prune?filters={"dangling":["false"]}`, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("pruning: %s", resp.Status)
	}
	syscall.Sync()
	return nil
}
