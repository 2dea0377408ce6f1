// Package alias keeps account of the temporary names that images have at an engine while
// they are pulled, so that each is removed and no other name ever is.
package alias

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "crypto/sha256" // digests in names
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
)

// removeLimit is how long an engine may take to remove a temporary name.
const removeLimit = 30 * time.Second

// Names are the temporary names of an engine. Each is in a file before the engine may
// know it, so that one that a crash leaves is removed at the next start. The methods
// may be called from anywhere.
type Names struct {
	dir    string
	engine engines.Engine
	log    logrus.FieldLogger

	mu     sync.Mutex
	active map[string]bool // files of pulls that run
}

// New returns the names that files in a directory note. The directory is made when it is
// needed.
func New(dir string, engine engines.Engine, log logrus.FieldLogger) *Names {
	return &Names{dir: dir, engine: engine, log: log, active: make(map[string]bool)}
}

// NoRegistry is a registry that does not exist (RFC 2606): only a mirror can serve what
// is under it.
const NoRegistry = "towline-trial.invalid"

// NewName returns the repository of a temporary name. Who does not know it can't ask
// for what is under it.
func NewName() string { return "towline/" + strings.ToLower(rand.Text()) }

// Add notes a temporary name, in the form REPOSITORY@DIGEST, before it is used.
func (a *Names) Add(reference string) (file string, err error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return "", err
	}
	file = filepath.Join(a.dir, strings.ToLower(rand.Text()))
	a.mu.Lock()
	a.active[file] = true
	a.mu.Unlock()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString(reference)
		// It must not be lost where the engine keeps the name.
		err = errors.Join(err, f.Sync(), f.Close(), syncDir(a.dir))
	}
	if err != nil {
		a.settle(file)
		os.Remove(file)
		return "", err
	}
	return file, nil
}

// Remove has the engine forget a temporary name. If that fails, Sweep tries again.
func (a *Names) Remove(file, reference string) {
	defer a.settle(file)
	ctx, cancel := context.WithTimeout(context.Background(), removeLimit)
	defer cancel()
	switch err := a.engine.RemoveImage(ctx, reference); {
	case err == nil, puller.KindOf(err) == puller.ErrNotFound:
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.log.WithError(err).Warn("the note of a temporary image name could not be removed")
		}
	default:
		a.log.WithError(err).WithField("image", reference).Warn("the engine could not remove a temporary image name; it is tried again later")
	}
}

func (a *Names) settle(file string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.active, file)
}

// Sweep removes the temporary names that earlier pulls have left, and reports whether
// any are left over.
func (a *Names) Sweep(ctx context.Context) (left bool) {
	entries, err := os.ReadDir(a.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.WithError(err).Warn("the notes of temporary image names can't be read")
		return true
	}
	for _, entry := range entries {
		file := filepath.Join(a.dir, entry.Name())
		a.mu.Lock()
		skip := a.active[file] || !entry.Type().IsRegular()
		a.mu.Unlock()
		if skip {
			continue
		}
		if ctx.Err() != nil {
			return true
		}
		reference, err := os.ReadFile(file)
		if err != nil || !isAlias(string(reference)) {
			// A crash cut it off, so the engine was not asked for the name yet.
			os.Remove(file)
			continue
		}
		a.mu.Lock()
		a.active[file] = true
		a.mu.Unlock()
		a.Remove(file, string(reference))
		if _, err := os.Lstat(file); err == nil {
			left = true
		}
	}
	return left
}

// isAlias reports whether a reference is a temporary name.
func isAlias(reference string) bool {
	name, of, _ := strings.Cut(reference, "@")
	host, repository, _ := strings.Cut(name, "/towline/")
	at, err := netip.ParseAddrPort(host)
	ours := err == nil && at.Addr().IsLoopback() || host == NoRegistry
	return ours && len(repository) == len(rand.Text()) && digest.Digest(of).Validate() == nil
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}
