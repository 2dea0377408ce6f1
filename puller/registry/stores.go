package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// stores are where Docker's command line keeps logins: its config.json, and the
// credential helpers that it names. Its methods may be called from anywhere.
type stores struct{ helpers *helpers }

// dockerConfig is what of a config.json matters here. Its logins are read one by
// one: one that is broken spoils no other.
type dockerConfig struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`

	name string // of the file, or of the variable that it came from
}

// find returns the login for a registry, of the host as it is written, none where
// there is none. It is looked for under the keys that Docker's command line uses,
// and under no others. What can't be read, and a helper that fails, do not end
// the search; they are the error where nothing is found.
func (s *stores) find(ctx context.Context, host string) (authn.AuthConfig, error) {
	var faults []error
	configs, err := readConfigs()
	if err != nil {
		faults = append(faults, err)
	}
	for _, c := range configs {
		for _, key := range keysOf(host) {
			found, err := s.look(ctx, c, key)
			if err != nil {
				faults = append(faults, err)
			}
			if found != (authn.AuthConfig{}) {
				return found, nil
			}
		}
	}
	return authn.AuthConfig{}, errors.Join(faults...)
}

// keysOf returns the keys that a registry's login is kept under.
func keysOf(host string) []string {
	address, err := names.CanonicalAddress(host)
	switch {
	case err != nil:
		return []string{host}
	case address == names.Hub:
		return []string{puller.HubServer}
	}
	return slices.Compact([]string{host, address})
}

// look asks the helper for the key, if there is one, and looks in the file if
// that has nothing.
func (s *stores) look(ctx context.Context, c dockerConfig, key string) (found authn.AuthConfig, err error) {
	helper, ok := c.CredHelpers[key]
	if !ok {
		helper = c.CredsStore
	}
	if helper != "" {
		if found, err = s.helpers.get(ctx, helper, key); found != (authn.AuthConfig{}) {
			return found, nil
		}
		if err != nil {
			err = fmt.Errorf("%w (%s names it)", err, c.name)
		}
	}
	raw, ok := c.Auths[key]
	if !ok {
		raw, ok = c.legacy(key)
	}
	if !ok {
		return found, err
	}
	if json.Unmarshal(raw, &found) != nil { // the error can quote the secret
		return authn.AuthConfig{}, errors.Join(err, fmt.Errorf("the login for %s in %s is not what Docker's clients write", key, c.name))
	}
	return found, err
}

// legacy returns the login for a registry under a URL of it, as old clients wrote
// them.
func (c dockerConfig) legacy(key string) (json.RawMessage, bool) {
	address, err := puller.RegistryOfServer(key)
	if err != nil {
		return nil, false
	}
	for _, written := range slices.Sorted(maps.Keys(c.Auths)) {
		if other, err := puller.RegistryOfServer(written); err == nil && other == address {
			return c.Auths[written], true
		}
	}
	return nil, false
}

// maxConfig bounds a config.json, in bytes.
const maxConfig = 4 << 20

// readConfigs reads what Docker's command line reads: DOCKER_AUTH_CONFIG, and
// config.json in DOCKER_CONFIG or the user's home; where that is not there,
// Podman's file of logins, which has the same form.
func readConfigs() (all []dockerConfig, err error) {
	var faults []error
	add := func(name string, content []byte) {
		c := dockerConfig{name: name}
		if json.Unmarshal(content, &c) != nil { // the error can quote the secret
			faults = append(faults, fmt.Errorf("%s is not the JSON that Docker's clients write", name))
			return
		}
		all = append(all, c)
	}
	if content := os.Getenv("DOCKER_AUTH_CONFIG"); content != "" {
		add("DOCKER_AUTH_CONFIG", []byte(content))
	}
	for _, name := range configFiles() {
		content, err := readConfig(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			faults = append(faults, err)
		} else if len(strings.TrimSpace(string(content))) > 0 {
			add(name, content)
		}
		break
	}
	return all, errors.Join(faults...)
}

func configFiles() (names []string) {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		names = append(names, filepath.Join(dir, "config.json"))
	} else if home, err := os.UserHomeDir(); err == nil {
		names = append(names, filepath.Join(home, ".docker", "config.json"))
	}
	if name := os.Getenv("REGISTRY_AUTH_FILE"); name != "" {
		return append(names, name)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		names = append(names, filepath.Join(dir, "containers", "auth.json"))
	}
	return names
}

func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(content) > maxConfig {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxConfig>>20)
	}
	return content, err
}

const (
	// helperLimit is how long a helper may take.
	helperLimit = 10 * time.Second
	// helperRest is for how long one that took longer is not asked again.
	helperRest = time.Minute
)
