// Package server runs a NATS server in the daemon, for a fleet that has none. It keeps the
// fleet's buckets on disk, and lets in the hosts that were invited.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/store"
)

// Options are the options of New. All fields but URLs, Certificate and CA must be set.
type Options struct {
	Fleet string
	Host  string // the ID of the daemon's own host
	// Dir is of the server alone. One server at a time uses it.
	Dir    string
	Listen string // HOST:PORT
	// URLs are those by which hosts reach the server. Without any, they follow from Listen.
	URLs []string
	// Certificate returns the server's certificate at a moment, and CA is what hosts are
	// given to verify it, in PEM: "" for the authorities of their system. Without
	// Certificate the server has an authority of its own.
	Certificate func() (*tls.Certificate, error)
	CA          string
	Records     store.Records
	Log         logrus.FieldLogger
	Metrics     prometheus.Registerer
}

// Server is a NATS server in this process. Its methods may be called from anywhere.
type Server struct {
	options  Options
	subjects fleet.Subjects
	log      logrus.FieldLogger
	own      creds.Creds // of the daemon itself, with all rights in the fleet's account
	users    *users

	mu        sync.Mutex
	authority *authority     // nil before the first start, and with Options.Certificate
	running   *server.Server // nil while none runs
	reason    error          // why none runs
	changed   chan struct{}  // closed when running or reason changes
}

var _ fleet.Inviter = (*Server)(nil)

// New reads the invitations.
func New(o Options) (*Server, error) {
	s := &Server{
		options: o, subjects: fleet.Subjects{Fleet: o.Fleet}, log: o.Log,
		reason: fleet.ErrStarts, changed: make(chan struct{}),
	}
	seed, public, err := newUser()
	if err != nil {
		return nil, err
	}
	s.own = creds.Creds{Fleet: o.Fleet, Host: o.Host, Controller: true, Seed: seed}
	if s.users, err = openUsers(o.Records, s.subjects, public, o.Log); err != nil {
		return nil, err
	}
	o.Metrics.MustRegister(s.users.refused)
	return s, nil
}

// newUser returns the seed of a new nkey, and its public key.
func newUser() (seed, public string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", "", err
	}
	defer pair.Wipe()
	written, err := pair.Seed()
	if err != nil {
		return "", "", err
	}
	public, err = pair.PublicKey()
	return string(written), public, err
}

// Creds are those of the daemon itself.
func (s *Server) Creds() creds.Creds { return s.own }

// InProcessConn connects the daemon itself (nats.InProcessConnProvider). The error says why
// the server does not run.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	running, reason := s.running, s.reason
	s.mu.Unlock()
	if running == nil {
		return nil, fmt.Errorf("the fleet's server does not run: %w", reason)
	}
	return running.InProcessConn()
}

// Address returns where the server listens, nil while it does not run.
func (s *Server) Address() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	return s.running.Addr()
}

// State returns whether the server runs, why it does not, and a channel that is closed when
// that changes.
func (s *Server) State() (runs bool, reason error, changed <-chan struct{}) { //nolint:staticcheck // reason is no error of State
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return true, nil, s.changed
	}
	return false, s.reason, s.changed
}

func (s *Server) set(running *server.Server, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.reason = running, reason
	close(s.changed)
	s.changed = make(chan struct{})
}

// Waits between two starts.
const (
	firstWait = time.Second
	maxWait   = time.Minute
)

// Run runs the server until ctx ends. One that can't start, or that stops, is started again
// and again: the daemon goes on alone meanwhile. The log and State say why.
func (s *Server) Run(ctx context.Context) {
	wait := firstWait
	for said := ""; ; {
		began := time.Now()
		err := s.serve(ctx)
		s.set(nil, err)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxWait {
			wait, said = firstWait, ""
		}
		if err.Error() != said {
			said = err.Error()
			s.log.WithError(err).Error("the fleet's server does not run; this host goes on alone, and starts the server again and again")
		}
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		wait = min(2*wait, maxWait)
	}
}

// startLimit is how long the begin of service may take.
const startLimit = time.Minute

// serve runs the server once, until it stops or ctx ends. The error is never nil.
func (s *Server) serve(ctx context.Context) error {
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return err
	}
	if err := s.tryDisk(); err != nil {
		return err
	}
	options, err := s.natsOptions()
	if err != nil {
		return err
	}
	n, err := server.NewServer(options)
	if err != nil {
		return err
	}
	said := newNATSLog(s.log)
	n.SetLoggerV2(said, false, false, false)
	s.users.attach(n)
	defer func() {
		s.set(nil, errors.New("it ends"))
		n.Shutdown()
		n.WaitForShutdown()
		s.users.attach(nil)
	}()
	n.Start()
	if err := said.fatal(); err != nil {
		return s.startFault(err)
	}
	if err := s.damage(n); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.publishAll(starting, n); err != nil {
		return fmt.Errorf("%s: the invitations can't be kept for the controllers: %w", s.options.Dir, err)
	}
	s.users.open()
	s.set(n, nil)
	s.log.WithFields(logrus.Fields{"fleet": s.options.Fleet, "address": n.Addr().String()}).Info("the fleet's server runs")
	return s.watch(ctx, n, said)
}

// startFault says which setting a start has failed by.
func (s *Server) startFault(err error) error {
	if _, busy := errors.AsType[*listenFault](err); busy {
		return fmt.Errorf("fleet.listen: %w", err)
	}
	return fmt.Errorf("%s: %w", s.options.Dir, err)
}

// damage returns an error if a bucket that was on disk is not there any more.
func (s *Server) damage(n *server.Server) error {
	kept := filepath.Join(s.options.Dir, server.JetStreamStoreDir)
	dir := filepath.Join(kept, accountFleet, "streams")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	state, err := n.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return err
	}
	var there []string
	for _, a := range state.AccountDetails {
		for _, d := range a.Streams {
			there = append(there, d.Name)
		}
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(there, e.Name()) {
			return fmt.Errorf("the store is damaged: %s can't be read. Put back a copy of %s; or remove that directory while the daemon is stopped, and apply the fleet's sets again", filepath.Join(dir, e.Name()), kept)
		}
	}
	return nil
}
