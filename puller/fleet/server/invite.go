package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
	"github.com/towline/towline/puller/fleet/creds"
)

// recordKind is the kind of the records of invitations, by host.
const recordKind = "fleet-invitations"

// callLimit is how long JetStream may take for a change of the invitations.
const callLimit = 10 * time.Second

// invitation is what is kept of one. The host alone has the seed.
type invitation struct {
	Key string `json:"key"` // the public key
	fleet.Invited
	Caller    string    `json:"caller,omitempty"` // who invited the host
	InvitedAt time.Time `json:"invited_at"`
}

// Invite implements fleet.Inviter.
func (s *Server) Invite(ctx context.Context, r fleet.InviteRequest) (fleet.Invitation, error) {
	if err := s.checkInvite(r); err != nil {
		return fleet.Invitation{}, err
	}
	s.users.saving.Lock()
	defer s.users.saving.Unlock()
	if was, ok := s.users.get(r.Host); ok && !r.Replace {
		return fleet.Invitation{}, puller.Errorf(puller.ErrConflict, "host: %s was invited at %s, and what it needs is told once. Replace the invitation, which ends the old one", r.Host, was.InvitedAt.UTC().Format(time.RFC3339))
	}
	seed, public, err := newUser()
	if err != nil {
		return fleet.Invitation{}, err
	}
	made := invitation{
		Key: public, Caller: r.Caller, InvitedAt: time.Now().UTC(),
		Invited: fleet.Invited{Labels: r.Labels, Zone: r.Zone, Controller: r.Controller},
	}
	// The controllers know the labels before the host can join.
	if err := s.change(ctx, func(ctx context.Context, bucket jetstream.KeyValue) error {
		return publish(ctx, bucket, r.Host, made.Invited)
	}); err != nil {
		return fleet.Invitation{}, err
	}
	if err := s.users.save(r.Host, made); err != nil {
		return fleet.Invitation{}, err
	}
	urls := s.urls()
	c := creds.Creds{Fleet: s.options.Fleet, Host: r.Host, URLs: urls, CA: s.options.CA, Controller: r.Controller, Seed: seed}
	if s.options.Certificate == nil {
		a, err := s.openAuthority()
		if err != nil {
			return fleet.Invitation{}, err
		}
		c.CA = a.pem
	}
	return fleet.Invitation{
		Fleet: s.options.Fleet, Host: r.Host, Labels: r.Labels, Zone: r.Zone, URL: strings.Join(urls, ","), Creds: creds.Format(c),
	}, nil
}

func (s *Server) checkInvite(r fleet.InviteRequest) error {
	if err := fleet.CheckHost(r.Host); err != nil {
		return err
	}
	if r.Host == s.options.Host {
		return puller.Errorf(puller.ErrInvalidRequest, "host: %s is the host of this daemon, which needs no invitation", r.Host)
	}
	if err := fleet.CheckLabels("labels", r.Labels); err != nil {
		return err
	}
	return fleet.CheckZone(r.Zone)
}

// urls returns those by which hosts reach the server.
func (s *Server) urls() []string {
	if len(s.options.URLs) > 0 {
		return s.options.URLs
	}
	_, port, _ := net.SplitHostPort(s.options.Listen)
	if a, ok := s.Address().(*net.TCPAddr); ok {
		port = fmt.Sprint(a.Port)
	}
	return []string{reachedBy(s.options.Listen, port)}
}

// Withdraw implements fleet.Inviter.
func (s *Server) Withdraw(ctx context.Context, host string) error {
	s.users.saving.Lock()
	defer s.users.saving.Unlock()
	if _, ok := s.users.get(host); !ok {
		return nil
	}
	if err := s.users.remove(host); err != nil {
		return err
	}
	return s.change(ctx, func(ctx context.Context, bucket jetstream.KeyValue) error { return bucket.Purge(ctx, host) })
}

// change calls f with the bucket of invitations. The error is ErrOverloaded.
func (s *Server) change(ctx context.Context, f func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	conn, err := s.connect(s)
	if err == nil {
		defer conn.Close()
		var bucket jetstream.KeyValue
		if bucket, err = s.invited(ctx, conn); err == nil {
			err = f(ctx, bucket)
		}
	}
	if err != nil {
		return puller.Errorf(puller.ErrOverloaded, "%w", err)
	}
	return nil
}

// connect returns a connection of the daemon's own to the server that runs, or is about to.
func (s *Server) connect(to nats.InProcessConnProvider) (*nats.Conn, error) {
	public, err := s.own.Public()
	if err != nil {
		return nil, err
	}
	return nats.Connect("", nats.InProcessServer(to), nats.Nkey(public, s.own.Sign), nats.NoReconnect(), nats.Name("towline invitations"))
}

// invited returns the bucket of invitations, and makes it if there is none.
func (s *Server) invited(ctx context.Context, conn *nats.Conn) (jetstream.KeyValue, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	if err := buckets.Open(ctx, js, buckets.Invited(s.subjects)); err != nil {
		return nil, err
	}
	return js.KeyValue(ctx, s.subjects.Invited())
}

func publish(ctx context.Context, bucket jetstream.KeyValue, host string, i fleet.Invited) error {
	value, err := json.Marshal(i)
	if err != nil {
		return err
	}
	_, err = bucket.Put(ctx, host, value)
	return err
}

// publishAll has the bucket of invitations say what the records say. No host is let in
// before.
func (s *Server) publishAll(ctx context.Context, n *server.Server) error {
	s.users.saving.Lock()
	defer s.users.saving.Unlock()
	conn, err := s.connect(n)
	if err != nil {
		return err
	}
	defer conn.Close()
	bucket, err := s.invited(ctx, conn)
	if err != nil {
		return err
	}
	wanted := s.users.all()
	there, err := bucket.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return err
	}
	for _, host := range there {
		if _, ok := wanted[host]; ok {
			continue
		}
		if err := bucket.Purge(ctx, host); err != nil {
			return err
		}
	}
	for host, i := range wanted {
		if slices.Contains(there, host) {
			value, err := json.Marshal(i.Invited)
			if err != nil {
				return err
			}
			if e, err := bucket.Get(ctx, host); err == nil && string(e.Value()) == string(value) {
				continue
			}
		}
		if err := publish(ctx, bucket, host, i.Invited); err != nil {
			return err
		}
	}
	return nil
}
