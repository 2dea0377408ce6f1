package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

// RegistryOptions are what a registry may differ in. The zero value is an open one.
type RegistryOptions struct {
	// Username and Password, when set, are asked of everyone, by basic authentication.
	Username, Password string
	// Sendfile has the kernel send blobs from the registry's files, so that they take little
	// of the processors, as those of a registry on another machine take nothing.
	Sendfile bool
}

// Registry is a real registry (the distribution project's) in this process, on plain
// HTTP, with what disturbs and counts its answers in front of it; see [Faults] and
// [Counts].
type Registry struct {
	*Faults

	opts    RegistryOptions
	dir     string
	port    *os.File // keeps the port while the registry is stopped
	app     *handlers.App
	pusher  *http.Transport
	handler http.Handler

	mu     sync.Mutex
	addr   string
	server *http.Server // nil while stopped
	cancel context.CancelFunc
	served chan struct{}
	active sync.RWMutex // held for reading by every request being answered
}

// StartRegistry starts an empty registry on 127.0.0.1, on a port of the system's
// choice. Its blobs lie in a temporary directory until Close.
//
// The registry's code logs to logrus's standard logger; this silences that logger for
// the whole process.
func StartRegistry(opts RegistryOptions) (_ *Registry, err error) {
	logrus.SetLevel(logrus.PanicLevel)
	dir, err := os.MkdirTemp("", "tlregistry")
	if err != nil {
		return nil, fmt.Errorf("lab: registry: %w", err)
	}
	port, addr, err := keepPort()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: registry: %w", err), os.RemoveAll(dir))
	}
	r := &Registry{Faults: newFaults(), opts: opts, dir: dir, port: port, addr: addr,
		pusher: &http.Transport{}}
	config := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem":  {"rootdirectory": filepath.Join(dir, "blobs")},
		"delete":      {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}}
	if opts.Username != "" {
		path := filepath.Join(dir, "htpasswd")
		if err := writePassword(path, opts.Username, opts.Password); err != nil {
			return nil, errors.Join(fmt.Errorf("lab: registry: %w", err), port.Close(), os.RemoveAll(dir))
		}
		config.Auth = configuration.Auth{"htpasswd": {"realm": "lab", "path": path}}
	}
	r.app = handlers.NewApp(context.Background(), config)
	registry := http.Handler(r.app)
	if opts.Sendfile {
		registry = sendfile(registry, filepath.Join(dir, "blobs"))
	}
	r.handler = r.Faults.wrap(registry)
	if err := r.Restart(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// keepPort binds a socket to a port of 127.0.0.1, of the system's choice, and does not
// listen: connections to it are refused, and until it is closed no other socket gets the
// port. That includes connections on their way out, of which tests make many. A listener
// with SO_REUSEADDR, as Go's are, may be there besides.
func keepPort() (port *os.File, addr string, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, "", os.NewSyscallError("socket", err)
	}
	port = os.NewFile(uintptr(fd), "port")
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("keeping a port: %w", err), port.Close())
	}
	return port, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), nil
}

func writePassword(path, username, password string) error {
	// The lowest cost: the engine sends its credentials with each request.
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s:%s\n", username, hash), 0o600)
}

// Addr is the registry's "127.0.0.1:port". It stays the same over Stop and Restart.
func (r *Registry) Addr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// Ref is the reference of a tag in this registry, "127.0.0.1:port/repo:tag".
func (r *Registry) Ref(repo, tag string) string { return r.Addr() + "/" + repo + ":" + tag }

// Push puts an image (a [v1.Image]) or several platforms' images (a [v1.ImageIndex])
// under a tag, and returns its digest, "sha256:…". It is neither disturbed nor counted.
func (r *Registry) Push(ctx context.Context, repo, tag string, image remote.Taggable) (string, error) {
	ref, err := name.NewTag(r.Ref(repo, tag), name.Insecure)
	if err != nil {
		return "", fmt.Errorf("lab: push: %w", err)
	}
	defer r.pusher.CloseIdleConnections()
	if err := remote.Push(ref, image, r.remote(ctx)...); err != nil {
		return "", fmt.Errorf("lab: push: %w", err)
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return "", fmt.Errorf("lab: push: %w", err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(manifest))
	return digest.String(), err
}

// Layers returns the digests of the layers of an image that was pushed.
func (r *Registry) Layers(ctx context.Context, image string) ([]string, error) {
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		return nil, fmt.Errorf("lab: layers: %w", err)
	}
	defer r.pusher.CloseIdleConnections()
	found, err := remote.Image(ref, r.remote(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("lab: layers: %w", err)
	}
	manifest, err := found.Manifest()
	if err != nil {
		return nil, fmt.Errorf("lab: layers: %w", err)
	}
	var digests []string
	for _, l := range manifest.Layers {
		digests = append(digests, l.Digest.String())
	}
	return digests, nil
}

// DiffIDs returns the digests of the contents of the layers of an image that was
// pushed, unpacked.
func (r *Registry) DiffIDs(ctx context.Context, image string) ([]string, error) {
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		return nil, fmt.Errorf("lab: diff IDs: %w", err)
	}
	defer r.pusher.CloseIdleConnections()
	found, err := remote.Image(ref, r.remote(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("lab: diff IDs: %w", err)
	}
	config, err := found.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("lab: diff IDs: %w", err)
	}
	var digests []string
	for _, d := range config.RootFS.DiffIDs {
		digests = append(digests, d.String())
	}
	return digests, nil
}

// Untag deletes a tag. The image stays, to be had by its digest.
func (r *Registry) Untag(ctx context.Context, repo, tag string) error {
	ref, err := name.NewTag(r.Ref(repo, tag), name.Insecure)
	if err != nil {
		return fmt.Errorf("lab: untag: %w", err)
	}
	defer r.pusher.CloseIdleConnections()
	if err := remote.Delete(ref, r.remote(ctx)...); err != nil {
		return fmt.Errorf("lab: untag: %w", err)
	}
	return nil
}

func (r *Registry) remote(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(r.pusher),
		remote.WithUserAgent(labAgent),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: r.opts.Username, Password: r.opts.Password})),
	}
}

// Restart makes a stopped registry answer again, on the same port, with all it had.
// It is an error if it runs.
func (r *Registry) Restart() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		return errors.New("lab: registry: it runs already")
	}
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		return fmt.Errorf("lab: registry: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.active.RLock()
			defer r.active.RUnlock()
			r.handler.ServeHTTP(w, req)
		}),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener)
	}()
	r.server, r.cancel, r.served = server, cancel, served
	return nil
}

// Stop takes the registry down: connections are cut, new ones refused, and every
// request's context ends. It returns when all requests have: a [Hook] must heed its
// request's context, and not call Stop itself. It is no error to stop it twice.
func (r *Registry) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return
	}
	r.cancel()
	r.server.Close()
	<-r.served
	r.active.Lock()
	r.active.Unlock() //nolint:staticcheck // taken only to wait for the readers
	r.server = nil
}

// Close stops the registry for good and removes all it has. Calling it again does no
// harm.
func (r *Registry) Close() error {
	r.Stop()
	r.pusher.CloseIdleConnections()
	r.port.Close() // an error says that it is closed already
	if err := errors.Join(closeEvents(r.app), r.app.Shutdown(), os.RemoveAll(r.dir)); err != nil {
		return fmt.Errorf("lab: registry: %w", err)
	}
	return nil
}
