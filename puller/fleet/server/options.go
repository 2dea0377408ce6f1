package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/towline/towline/puller/fleet/buckets"
)

// The accounts. JetStream answers to any subject that the asker names as its inbox, with all
// rights in its account: in the same account a host could have it write what the host has
// reported over what others are to have. So hosts have another one, and reach of the fleet's
// account what it exports.
const (
	accountFleet = "fleet" // JetStream, and the daemons that may change the fleet
	accountHosts = "hosts" // all others
)

// Limits of connections.
const (
	maxConnections   = 10_000
	maxPayload       = 1 << 20 // bytes of a message
	maxSubscriptions = 100     // of a connection
	maxPending       = 32 << 20
	loginLimit       = 5 * time.Second // for TLS, and again for the proof of who it is
	pingEvery        = 20 * time.Second
	// maxBuffered is how many messages, and bytes of them, wait to be stored in a bucket.
	maxBufferedMessages = 20_000
	maxBufferedBytes    = 64 << 20
	// maxStore is how many bytes the buckets may have. The disk may have less.
	maxStore  = 16 << 30
	maxMemory = 2 * buckets.MaxReports
)

// natsOptions returns the options of the NATS server.
func (s *Server) natsOptions() (*server.Options, error) {
	host, written, err := net.SplitHostPort(s.options.Listen)
	if err != nil {
		return nil, fmt.Errorf("fleet.listen: %w", err)
	}
	port, err := strconv.Atoi(written)
	if err != nil {
		return nil, fmt.Errorf("fleet.listen: %w", err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	o := new(server.Options)
	if err := o.ProcessConfigString(s.accounts()); err != nil {
		return nil, err
	}
	o.ServerName = "towline-" + s.options.Fleet
	o.Host, o.Port = host, port
	o.NoSigs, o.NoLog, o.DisableJetStreamBanner = true, true, true
	o.CustomClientAuthentication, o.AlwaysEnableNonce = s.users, true
	o.MaxConn, o.MaxSubs, o.MaxPayload, o.MaxPending = maxConnections, maxSubscriptions, maxPayload, maxPending
	o.PingInterval, o.AuthTimeout = pingEvery, loginLimit.Seconds()
	o.JetStream, o.StoreDir, o.SyncAlways = true, s.options.Dir, true
	o.JetStreamMaxStore, o.JetStreamMaxMemory = maxStore, maxMemory
	o.StreamMaxBufferedMsgs, o.StreamMaxBufferedSize = maxBufferedMessages, maxBufferedBytes
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.options.Certificate() }
	if s.options.Certificate == nil {
		a, err := s.openAuthority()
		if err != nil {
			return nil, err
		}
		certificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return a.certificate(h.Conn.LocalAddr()) }
	}
	o.TLS, o.TLSTimeout = true, loginLimit.Seconds()
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate}
	return o, nil
}

// openAuthority returns the server's own authority. It is read, or made, once.
func (s *Server) openAuthority() (*authority, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.authority != nil {
		return s.authority, nil
	}
	a, err := openAuthority(filepath.Join(s.options.Dir, "authority.pem"), s.options.Fleet, certificateNames(s.options.Listen, s.options.URLs))
	if err == nil {
		s.authority = a
	}
	return a, err
}

// accounts writes the accounts in the form of a configuration of NATS. The README has it for
// the operators of a NATS: a test compares them.
func (s *Server) accounts() string {
	var exports, imports []string
	for _, subject := range s.subjects.HostPublish("*") {
		exports = append(exports, fmt.Sprintf("{service: %q}", subject))
		imports = append(imports, fmt.Sprintf("{service: {account: %s, subject: %q}}", accountFleet, subject))
	}
	for _, subject := range s.subjects.HostSubscribe("*") {
		if !strings.HasPrefix(subject, "$KV.") {
			continue // inboxes are in the host's own account
		}
		exports = append(exports, fmt.Sprintf("{stream: %q}", subject))
		imports = append(imports, fmt.Sprintf("{stream: {account: %s, subject: %q}}", accountFleet, subject))
	}
	return fmt.Sprintf("accounts {\n  %s {\n    jetstream: enabled\n    exports: [\n      %s\n    ]\n  }\n  %s {\n    imports: [\n      %s\n    ]\n  }\n}\n",
		accountFleet, strings.Join(exports, "\n      "), accountHosts, strings.Join(imports, "\n      "))
}
