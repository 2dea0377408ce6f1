// Package endpoint is a registry on loopback from which the engine of this machine
// pulls: the read part of the OCI distribution specification, for what a Content has.
//
// Every process of the machine can connect, and a web page can make a browser do so. So
// the endpoint serves GET and HEAD only, under its exact address as Host, and says no
// more of what it does not serve than that it does not.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/towline/towline/puller"
)

// Content is what a Server serves. Its methods may be called from anywhere. name is a
// repository, and ns is the registry that an engine asks its mirror for (the parameter
// ns of containerd); "" where it asks for none. Both are well formed, as are
// digests and references. An error of the kind ErrNotFound makes the engine go on
// without the endpoint, and so do all others.
type Content interface {
	// Manifest returns the manifest that a tag or a digest names.
	Manifest(ctx context.Context, ns, name, reference string) (puller.RawManifest, error)
	// Blob returns a blob at once, whether its bytes are there or not.
	Blob(ctx context.Context, ns, name, digest string) (Blob, error)
	// Referrers returns the index of what refers to a manifest.
	Referrers(ctx context.Context, ns, name, digest string) (puller.RawManifest, error)
}

// Blob is a blob that is served. Close is called once.
type Blob interface {
	Size() int64 // in bytes
	// NewReader returns a reader of the bytes from an offset on, which may wait for
	// them. An error that is not io.EOF disconnects the engine.
	NewReader(ctx context.Context, from int64) io.ReadCloser
	Close()
}

// Options are what a Server is made of.
type Options struct {
	Listen  string // mirror.listen: a loopback address and a port
	Content Content
	Log     logrus.FieldLogger
}

// Server serves a Content.
type Server struct{ o Options }

// New returns a Server that does not listen.
func New(o Options) *Server { return &Server{o} }

const (
	// headerLimit is how long a client may take for the head of a request.
	headerLimit = 10 * time.Second
	// idleLimit is how long a connection is kept for another request.
	idleLimit = 2 * time.Minute
	// readLimit is how long a client may read nothing of an answer.
	readLimit = 10 * time.Minute
)

// Listen begins to listen. Its errors name mirror.listen.
func (s *Server) Listen() (net.Listener, error) {
	at, err := netip.ParseAddrPort(s.o.Listen)
	switch {
	case err != nil:
		return nil, fmt.Errorf("mirror.listen: %q is not an address and a port, such as 127.0.0.1:7079", puller.Clip(s.o.Listen))
	case !at.Addr().IsLoopback():
		return nil, fmt.Errorf("mirror.listen: %s is not a loopback address", at.Addr())
	}
	l, err := net.Listen("tcp", at.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("mirror.listen: another program uses %s; stop it, or set another port: %w", at, err)
	case err != nil:
		return nil, fmt.Errorf("mirror.listen: %w", err)
	}
	return l, nil
}

// Serve serves what connects to a listener of Listen until ctx ends. It closes the
// listener, and returns when all requests have ended. It returns nil if ctx has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	conns := newConnections(l)
	server := &http.Server{
		Handler:                      &handler{content: s.o.Content, log: s.o.Log, hosts: hosts(l.Addr())},
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerLimit,
		IdleTimeout:                  idleLimit,
		MaxHeaderBytes:               16 << 10,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnState:                    conns.note,
		ErrorLog:                     log.New(debug{s.o.Log}, "", 0),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	err := server.Serve(conns)
	stop()
	server.Close()
	conns.wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve the engine at %s: %w", l.Addr(), err)
}

// hosts returns the values of Host under which an address may be asked. Any other one
// may be the name of a web page whose DNS server says that it is this machine.
func hosts(address net.Addr) map[string]bool {
	all := map[string]bool{address.String(): true}
	if _, port, err := net.SplitHostPort(address.String()); err == nil {
		all["localhost:"+port] = true
	}
	for host := range maps.Clone(all) {
		if name, ok := strings.CutSuffix(host, ":80"); ok { // clients leave the port of http out
			all[name] = true
		}
	}
	return all
}

// debug logs what net/http says: clients cause most of it.
type debug struct{ log logrus.FieldLogger }

func (d debug) Write(p []byte) (int, error) {
	d.log.Debug("mirror: " + strings.TrimSpace(string(p)))
	return len(p), nil
}
