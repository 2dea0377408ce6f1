// Package login finds Towline's own credentials for registries: in its configuration, in
// the config.json of Docker's clients, and from credential helpers.
package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/singleflight"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/credentials"
	"github.com/towline/towline/puller/names"
)

// Login is a login of Towline itself at a registry.
type Login struct {
	Registry string // host, or host:port
	Username string
	// PasswordFile holds the password or token and an optional line break. It is read for
	// each request.
	PasswordFile string
}

// maxPassword limits a password file, in bytes.
const maxPassword = 8 << 10

// searchLimit is how long a search in Docker's config.json and its helpers may take.
const searchLimit = 20 * time.Second

// Logins are all logins of Towline. The methods may be called from anywhere.
type Logins struct {
	helpers  *credentialHelpers
	searches singleflight.Group

	mu         sync.Mutex
	configured []Login
	docker     bool
}

// New returns Logins. With docker, those that are not configured are looked up as Docker's
// command line does: in the config.json of the daemon's user, and from the credential
// helpers that it names. The error names the configuration key of the first invalid login.
func New(configured []Login, docker bool) (*Logins, error) {
	l := &Logins{helpers: newCredentialHelpers(helperLimit, helperPause)}
	return l, l.Set(configured, docker)
}

// Set replaces what New was given. With an error it replaces nothing.
func (l *Logins) Set(configured []Login, docker bool) error {
	if err := check(configured); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configured, l.docker = configured, docker
	return nil
}

// check returns an error that names the configuration key of the first invalid login.
func check(configured []Login) error {
	seen := make(map[string]bool)
	for i, l := range configured {
		address, err := names.CanonicalAddress(l.Registry)
		switch {
		case err != nil:
			return fmt.Errorf("registries.credentials[%d].registry: %q %w; write its host, such as registry.example.com", i, l.Registry, err)
		case seen[address]:
			return fmt.Errorf("registries.credentials[%d].registry: %s is listed twice", i, l.Registry)
		case l.Username == "":
			return fmt.Errorf("registries.credentials[%d].username: missing", i)
		case !filepath.IsAbs(l.PasswordFile):
			return fmt.Errorf("registries.credentials[%d].password_file: %q is not an absolute path", i, l.PasswordFile)
		}
		seen[address] = true
	}
	return nil
}

// Credentials returns what Towline has for an image's registry, none where it has none.
// Errors are of type *puller.Error and quote nothing of what was read.
func (l *Logins) Credentials(ctx context.Context, image string) (puller.Credentials, error) {
	fail := func(kind puller.ErrorKind, err error) (puller.Credentials, error) {
		return puller.Credentials{}, &puller.Error{Op: "find towline's own credentials for", Ref: image, Kind: kind, Err: err}
	}
	ref, err := puller.ParseReference(image)
	if err != nil {
		return fail(puller.ErrInvalidRequest, err)
	}
	registry := reference.Domain(ref)
	address, err := names.CanonicalAddress(registry)
	if err != nil {
		return fail(puller.ErrInvalidRequest, fmt.Errorf("the registry %q %w", registry, err))
	}
	l.mu.Lock()
	configured, docker := l.configured, l.docker
	l.mu.Unlock()
	for _, c := range configured {
		if own, err := names.CanonicalAddress(c.Registry); err != nil || own != address {
			continue
		}
		password, err := c.password()
		if err != nil {
			return fail(puller.ErrInternal, err)
		}
		return credentialsOf(registry, authn.AuthConfig{Username: c.Username, Password: password})
	}
	if !docker {
		return puller.Credentials{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	// Callers share one search. It goes on when one of them leaves.
	search := l.searches.DoChan(registry, func() (any, error) {
		return findDockerLogin(context.WithoutCancel(ctx), l.helpers, registry)
	})
	select {
	case r := <-search:
		found := r.Val.(authn.AuthConfig)
		if r.Err != nil {
			return fail(puller.ErrInternal, r.Err)
		}
		return credentialsOf(registry, found)
	case <-ctx.Done():
		return fail(puller.ErrInternal, errors.New("the credential helpers that the config.json of Docker's clients names did not answer in time"))
	}
}

func (l Login) password() (string, error) {
	f, err := os.Open(l.PasswordFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" || len(content) > maxPassword {
		return "", fmt.Errorf("%s is empty, or longer than %d bytes", l.PasswordFile, maxPassword)
	}
	return password, nil
}

// credentialsOf encodes credentials as Docker's clients do. Engines with the containerd
// image store use them only for the server in serveraddress.
func credentialsOf(registry string, a authn.AuthConfig) (puller.Credentials, error) {
	if registry == names.Hub {
		registry = credentials.HubServer
	}
	body, err := json.Marshal(map[string]string{
		"username": a.Username, "password": a.Password, "auth": a.Auth,
		"identitytoken": a.IdentityToken, "registrytoken": a.RegistryToken, "serveraddress": registry,
	})
	if err != nil {
		return puller.Credentials{}, puller.Errorf(puller.ErrInternal, "towline's own credentials for %s can't be encoded", registry)
	}
	c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString(body))
	if err != nil {
		return c, puller.Errorf(puller.ErrInternal, "towline's own credentials for %s have a form that engines do not accept", registry)
	}
	return c, nil
}
