package login

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

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/towline/towline/puller/credentials"
	"github.com/towline/towline/puller/names"
)

// dockerConfig is the part of a config.json that Towline uses. Each login is decoded by
// itself, so that an invalid one does not affect the others.
type dockerConfig struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`

	name string // of the file or the environment variable
}

// findDockerLogin returns the login for a registry's host as Docker's command line finds
// it: in config.json and in the credential helpers that it names, under the same keys. The
// login is empty where there is none. Unreadable files and failed helpers do not end the
// search; they are the error where nothing is found.
func findDockerLogin(ctx context.Context, helpers *credentialHelpers, host string) (authn.AuthConfig, error) {
	var faults []error
	configs, err := readConfigs()
	if err != nil {
		faults = append(faults, err)
	}
	for _, c := range configs {
		for _, key := range keysOf(host) {
			found, err := c.login(ctx, helpers, key)
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

// keysOf returns the keys of a registry's login.
func keysOf(host string) []string {
	address, err := names.CanonicalAddress(host)
	switch {
	case err != nil:
		return []string{host}
	case address == names.Hub:
		return []string{credentials.HubServer}
	}
	return slices.Compact([]string{host, address})
}

// login returns the login for a key: from the key's helper, or else from the file.
func (c dockerConfig) login(ctx context.Context, helpers *credentialHelpers, key string) (found authn.AuthConfig, err error) {
	helper, ok := c.CredHelpers[key]
	if !ok {
		helper = c.CredsStore
	}
	if helper != "" {
		if found, err = helpers.get(ctx, helper, key); found != (authn.AuthConfig{}) {
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

// legacy returns the login under a URL of the registry, the key of old clients.
func (c dockerConfig) legacy(key string) (json.RawMessage, bool) {
	address, err := credentials.RegistryOf(key)
	if err != nil {
		return nil, false
	}
	for _, written := range slices.Sorted(maps.Keys(c.Auths)) {
		if other, err := credentials.RegistryOf(written); err == nil && other == address {
			return c.Auths[written], true
		}
	}
	return nil, false
}

// maxConfig limits a config.json, in bytes.
const maxConfig = 4 << 20

// readConfigs reads the files of Docker's command line: DOCKER_AUTH_CONFIG, and config.json
// in DOCKER_CONFIG or the user's home. Where there is no config.json, it reads Podman's
// auth.json, which has the same form.
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

// Sources returns where logins of Docker's clients are looked for: the environment
// variable and the files, whether they exist or not.
func Sources() (sources []string) {
	if os.Getenv("DOCKER_AUTH_CONFIG") != "" {
		sources = append(sources, "DOCKER_AUTH_CONFIG")
	}
	return append(sources, configFiles()...)
}

func configFiles() (files []string) {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		files = append(files, filepath.Join(dir, "config.json"))
	} else if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	if name := os.Getenv("REGISTRY_AUTH_FILE"); name != "" {
		return append(files, name)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	}
	return files
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
